"""The rules for devices and number formats, as a table."""

import pytest
import torch

from sfumato.engine.device import Dtypes, Facts, choose_device, choose_dtypes
from sfumato.errors import InvalidRequest, Unsupported

CPU, MPS = Facts("cpu"), Facts("mps")
HOPPER = Facts("cuda", (9, 0), "NVIDIA H200", bf16=True)
TURING = Facts("cuda", (7, 5), "NVIDIA GeForce RTX 2080")
GTX_16 = Facts("cuda", (7, 5), "NVIDIA GeForce GTX 1660 Ti")
PASCAL = Facts("cuda", (6, 1), "NVIDIA GeForce GTX 1080")
F32, F16, B16 = torch.float32, torch.float16, torch.bfloat16


@pytest.mark.parametrize(
    ("facts", "asked", "half_vae", "family", "expected"),
    [
        (CPU, "auto", True, "sd1", Dtypes(F32, F32, F32)),
        (CPU, "fp16", True, "sd1", Dtypes(F16, F16, F32)),
        (MPS, "auto", True, "sdxl", Dtypes(F16, F16, F32)),
        (HOPPER, "auto", True, "sd1", Dtypes(F16, F16, F16)),
        (HOPPER, "auto", True, "sdxl", Dtypes(F16, F16, B16)),
        (HOPPER, "auto", False, "sdxl", Dtypes(F16, F16, F32)),
        (HOPPER, "bf16", True, "sd1", Dtypes(B16, B16, B16)),
        (HOPPER, "fp32", True, "sd1", Dtypes(F32, F32, F32)),
        (TURING, "auto", True, "sdxl-refiner", Dtypes(F16, F16, F32)),
        (GTX_16, "auto", True, "sd1", Dtypes(F32, F32, F32)),
        (PASCAL, "auto", True, "sd1", Dtypes(F32, F32, F32)),
        (PASCAL, "fp16", True, "sd2", Dtypes(F16, F16, F16)),
    ],
)
def test_dtypes(facts: Facts, asked: str, half_vae: bool, family: str, expected: Dtypes) -> None:
    assert choose_dtypes(facts, asked, half_vae=half_vae, family=family) == expected  # type: ignore[arg-type]


def test_a_precision_that_does_not_exist() -> None:
    with pytest.raises(InvalidRequest, match="fp8"):
        choose_dtypes(CPU, "fp8")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["gpu", "", "cuda:", "cuda:x", "cpu:1", "mps:0", "cuda:99999999"])
def test_names_that_do_not_exist(name: str) -> None:
    with pytest.raises(InvalidRequest, match="auto, cpu, cuda"):
        choose_device(name)


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(Unsupported, match="sees 0 CUDA devices"):
        choose_device("cuda")
    with pytest.raises(Unsupported, match="mps"):
        choose_device("mps")
    assert choose_device("auto") == torch.device("cpu")


def test_auto_prefers_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device() == torch.device("cuda", 1)
    assert choose_device("CUDA:0") == torch.device("cuda", 0)
    with pytest.raises(Unsupported, match="sees 2"):
        choose_device("cuda:2")
