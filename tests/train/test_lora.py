"""Adapters: nothing at first, switched off exactly, written under names that every program reads; distillation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sfumato.engine.checkpoint.safetensors import read_safetensors
from sfumato.engine.models.layers import Linear
from sfumato.engine.sampling.prediction import Prediction
from sfumato.engine.sampling.solvers.lcm import boundary
from sfumato.engine.sampling.step import Guided
from sfumato.train.recipe import Recipe, recipe_from
from sfumato.train.target import Batch
from sfumato.train.targets.lora import ConsistencyLora, Lora

CPU = torch.device("cpu")


def recipe(target: str = "lora") -> Recipe:
    data = {"mix": "nano", "size": 32, "pictograms": False}
    adapter = {"rank": 4, "alpha": 2}
    sheet = {"prompts": ["a red circle"], "steps": 2, "guidance": 1.0, "sampler": "LCM"}
    return recipe_from({"name": "t", "target": target, "architecture": "nano", "data": data, "adapter": adapter, "sheet": sheet})


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch((5, 9), torch.empty(2, 0), ("a red circle", ""), torch.randn(2, 4, 4, 4, generator=generator))


def bend(weights: object, generator: torch.Generator) -> None:
    with torch.no_grad():
        for weight in weights:  # type: ignore[attr-defined]
            weight += 0.05 * torch.randn(weight.shape, generator=generator)


def made(kind: type[Lora]) -> Lora:
    target = kind(recipe(), CPU)
    bend(
        (w for n, w in target.model.unet.named_parameters() if "parametrizations.weight.0" not in n),
        torch.Generator().manual_seed(1),
    )
    return target


@pytest.mark.parametrize("kind", [Lora, ConsistencyLora])
def test_gradients_reach_adapters_only(kind: type[Lora], batch: Batch) -> None:
    target = made(kind)
    bend(target.weights.values(), torch.Generator().manual_seed(2))
    target.loss(batch, 0).total.backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in target.weights.values())
    others = [w for n, w in target.model.named_parameters() if not any(w is own for own in target.weights.values())]
    assert others
    assert all(weight.grad is None for weight in others)


def test_a_fresh_adapter_changes_nothing(batch: Batch) -> None:
    target = made(Lora)
    x, times, context = torch.randn(1, 4, 4, 4), torch.tensor([500.0]), torch.randn(1, 77, 48)
    with torch.no_grad():
        before = target.model.unet(x, times, context)
        with target.adapters.off():
            assert torch.equal(target.model.unet(x, times, context), before)
        bend(target.weights.values(), torch.Generator().manual_seed(2))
        assert not torch.allclose(target.model.unet(x, times, context), before)
        with target.adapters.off():
            assert torch.equal(target.model.unet(x, times, context), before)


def test_what_is_written_is_what_was_learned(tmp_path: Path) -> None:
    target = made(Lora)
    bend(target.weights.values(), torch.Generator().manual_seed(2))
    target.save(tmp_path / "lora.safetensors")
    table = read_safetensors(tmp_path / "lora.safetensors")
    tensors = {name: table[name].read() for name in table}
    assert table.metadata["ss_network_dim"] == "4"
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    delta = tensors[f"{key}.lora_up.weight"] @ tensors[f"{key}.lora_down.weight"] * tensors[f"{key}.alpha"] / 4
    module = target.model.unet.get_submodule("input_blocks.1.1.transformer_blocks.0.attn2.to_k")
    assert isinstance(module, Linear)
    original = module.parametrizations.weight.original  # type: ignore[union-attr,index]
    torch.testing.assert_close(module.weight - original, delta)
    assert tensors["lora_unet_mid_block_attentions_0_proj_in.lora_down.weight"].shape[2:] == (1, 1)
    assert len(tensors) == 3 * len(target.weights) / 2
    assert all(name.startswith("lora_unet_") for name in tensors)
    assert not any("input_blocks" in name for name in tensors)


def test_the_students_jump_is_the_samplers() -> None:
    target = made(ConsistencyLora)
    assert isinstance(target, ConsistencyLora)
    levels = Prediction.of(target.model.spec).levels
    x, text = torch.randn(1, 4, 4, 4), target.context(["a red circle"])
    time = torch.tensor([399])
    alpha = target._alphas[time][:, None, None, None]
    sigma = float(levels.sigmas[399])

    def denoise(scaled: torch.Tensor, sigma: float, call: int) -> Guided:
        clean = scaled - sigma * target.model.unet(scaled / (1 + sigma**2) ** 0.5, time.float(), text)
        return Guided(clean, clean)

    with torch.no_grad():
        expected = boundary(denoise, levels)(x / alpha.sqrt(), sigma, 0).denoised
        jumped = target._jump(x, time, alpha, text)
    torch.testing.assert_close(jumped, expected, atol=1e-4, rtol=1e-3)


def test_sheet_with_four_steps() -> None:
    sheet = made(ConsistencyLora).sheet()
    assert sheet.pictures is not None
    assert sheet.pictures.shape == (1, 3, 32, 32)
