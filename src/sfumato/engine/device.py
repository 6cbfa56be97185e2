"""What computes, in which number format: the policy as plain functions of what the machine is.

The rules follow what the hardware does well. A processor computes in float32; half precision there is emulated and up to
hundreds of times slower. NVIDIA cards compute in half precision from capability 7.0 on; the GTX 16 series gives wrong
numbers in it. Apple's GPU takes half precision, but the autoencoder needs float32 there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import torch

from sfumato.errors import InvalidRequest, Unsupported

Precision = Literal["auto", "fp32", "fp16", "bf16"]
"""What the user asks for; "auto" lets the device decide."""

_NAMES = "auto, cpu, cuda, cuda:N or mps"
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Dtypes:
    """Number formats of the parts of a model.

    Attributes:
        unet: also that of what is computed between its steps, which is float32 wherever it adds up.
        text: of the text encoders.
        vae: of the autoencoder.
    """

    unet: torch.dtype
    text: torch.dtype
    vae: torch.dtype


@dataclass(frozen=True, slots=True)
class Facts:
    """What a device is, as far as the rules ask.

    Attributes:
        kind: "cpu", "cuda" or "mps".
        capability: NVIDIA's compute capability, (0, 0) elsewhere.
        name: the maker's name of the card.
        bf16: the device computes in bfloat16 at full speed.
    """

    kind: str
    capability: tuple[int, int] = (0, 0)
    name: str = ""
    bf16: bool = False


def choose_device(name: str = "auto") -> torch.device:
    """The device of a name; "auto" takes CUDA before MPS before the processor.

    Raises:
        InvalidRequest: no such name.
        Unsupported: the device is not there, or PyTorch was built without it.
    """
    text = name.strip().lower()
    if text == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    found = re.fullmatch(r"(cpu|mps|cuda)(?::(\d{1,3}))?", text)
    if found is None or (found[1] != "cuda" and found[2]):
        raise InvalidRequest(f"There is no device {name[:60]!r}: give {_NAMES}.")
    kind, index = found[1], int(found[2] or 0)
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if index >= count:
            raise Unsupported(
                f"The device {text!r} is not there: PyTorch {torch.__version__} sees {count} CUDA devices.",
                advice="Use --device cpu, or install the PyTorch build for your card and its driver.",
            )
        return torch.device("cuda", index)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise Unsupported("The device 'mps' is not there.", advice="It needs an Apple GPU and macOS 14; use --device cpu.")
    return torch.device(kind)


def facts_of(device: torch.device) -> Facts:
    """What is known of a device."""
    if device.type != "cuda":
        return Facts(device.type)
    capability = torch.cuda.get_device_capability(device)
    return Facts("cuda", capability, torch.cuda.get_device_name(device), bf16=capability >= (8, 0))


def choose_dtypes(facts: Facts, asked: Precision = "auto", *, half_vae: bool = True, family: str = "sd1") -> Dtypes:
    """The number formats of a model's parts on a device.

    Args:
        facts: see `facts_of`.
        asked: a format for the UNet and the text encoders, or "auto".
        half_vae: False keeps the autoencoder in float32 (`--no-half-vae`).
        family: of the model; the autoencoder of SDXL overflows in float16.

    Raises:
        InvalidRequest: no such format.
    """
    if asked != "auto" and asked not in _DTYPES:
        raise InvalidRequest(f"There is no precision {str(asked)[:60]!r}: give auto, {', '.join(_DTYPES)}.")
    unet = _DTYPES[asked] if asked != "auto" else torch.float16 if _half_works(facts) else torch.float32
    return Dtypes(unet=unet, text=unet, vae=_vae_dtype(facts, unet, half_vae, family))


def _half_works(facts: Facts) -> bool:
    if facts.kind == "mps":
        return True
    # Cards of the GTX 16 series answer fp16 convolutions with values that are not numbers.
    return facts.kind == "cuda" and facts.capability >= (7, 0) and " 16" not in facts.name.upper().replace("GTX16", "GTX 16")


def _vae_dtype(facts: Facts, unet: torch.dtype, half_vae: bool, family: str) -> torch.dtype:
    if not half_vae or unet == torch.float32 or facts.kind != "cuda":
        return torch.float32
    if unet == torch.bfloat16 or family.startswith("sdxl"):
        return torch.bfloat16 if facts.bf16 else torch.float32
    return torch.float16
