"""The memory plan and the visits of a model's parts, on the processor with a counting stand-in for the transfer."""

import pytest
import torch

from sfumato.engine.models.config import ModelSpec, TextConfig, TextEncoderSpec, UNetConfig, VAEConfig
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.residency import MemoryPlan, Weights, choose_plan, visiting
from sfumato.errors import InvalidRequest

GB = 1 << 30
SDXL = Weights(unet=int(4.8 * GB), text=int(1.6 * GB), vae=int(0.16 * GB))
SPEC = ModelSpec(
    family="sd1",
    unet=UNetConfig(model_channels=32, norm_num_groups=8, context_dim=32),
    vae=VAEConfig(ch=32, norm_num_groups=8),
    text=(TextEncoderSpec(TextConfig(width=32, layers=2, heads=2, mlp_width=64), "cond_stage_model.transformer."),),
)


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    torch.manual_seed(0)
    return DiffusionModel(SPEC)


@pytest.mark.parametrize(
    ("free", "asked", "level"),
    [
        (24, "auto", "high"),
        (8, "auto", "medium"),
        (4, "auto", "low"),
        (24, "medium", "medium"),
        (24, "low", "low"),
        (1, "high", "high"),
    ],
)
def test_plan_on_a_card(free: int, asked: str, level: str) -> None:
    plan = choose_plan(SDXL, free * GB, device="cuda", asked=asked)
    assert plan.level == level
    assert plan.filters == 0


def test_plan_on_the_processor() -> None:
    assert choose_plan(SDXL, 64 * GB, device="cpu", number_bytes=4).filters > 10 * GB
    tight = choose_plan(SDXL, 8 * GB, device="cpu", number_bytes=4)
    assert tight == MemoryPlan("high", strips=False, filters=0)
    assert choose_plan(SDXL, 64 * GB, device="cpu", asked="low") == MemoryPlan("high", strips=True, filters=0)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_is_free_does_not_change_pictures(device: str) -> None:
    plans = [choose_plan(SDXL, free * GB, device=device, asked="high", pixels=4096**2) for free in (2, 8, 64)]
    assert {plan.strips for plan in plans} == {False}


def test_a_plan_that_does_not_exist() -> None:
    with pytest.raises(InvalidRequest, match="tiny"):
        choose_plan(SDXL, GB, device="cuda", asked="tiny")


def test_weights_are_counted_without_memory() -> None:
    with torch.device("meta"):
        weights = Weights.of(DiffusionModel(SPEC))
    assert min(weights.unet, weights.text, weights.vae) > 0
    assert weights.total == weights.unet + weights.text + weights.vae


@pytest.mark.parametrize("level", ["high", "medium", "low"])
@torch.inference_mode()
def test_visits_change_nothing(model: DiffusionModel, level: str) -> None:
    tokens, x, timesteps = torch.full((1, 77), 49407), torch.randn(1, 4, 8, 8), torch.tensor([7.0])

    def work() -> list[torch.Tensor]:
        hidden = model.text_encoders[0](tokens).hidden
        kv = model.unet.project_context(hidden)
        return [hidden, model.unet(x, timesteps, kv), model.vae.decode(x), model.vae.encode(torch.zeros(1, 3, 16, 16)).mean]

    own = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    expected = work()
    brought = []

    def fetch(tensor: torch.Tensor) -> torch.Tensor:
        brought.append(tensor.nbytes)
        return tensor.clone()

    with visiting(model, MemoryPlan(level), torch.device("cpu"), fetch=fetch):  # type: ignore[arg-type]
        results = work()
    assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == own
    assert sum(brought) >= Weights.of(model).total * 0.9


@torch.inference_mode()
def test_an_error_sends_everything_home(model: DiffusionModel) -> None:
    own = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    with visiting(model, MemoryPlan("low"), torch.device("cpu"), fetch=torch.clone):
        with pytest.raises(ValueError, match="channels"):
            model.unet(torch.randn(1, 5, 8, 8), torch.tensor([7.0]), torch.randn(1, 77, 32))
        with pytest.raises(RuntimeError):
            model.vae.decode(torch.randn(1, 7, 8, 8))
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == own


@torch.inference_mode()
def test_low_holds_one_block_at_a_time(model: DiffusionModel) -> None:
    held, most = [0], [0]

    def fetch(tensor: torch.Tensor) -> torch.Tensor:
        copy = tensor.clone()
        if tensor.nbytes:
            held[0] += tensor.nbytes
            most[0] = max(most[0], held[0])
            copy.__dict__["release"] = _Release(held, tensor.nbytes)
        return copy

    with visiting(model, MemoryPlan("low"), torch.device("cpu"), fetch=fetch):
        model.unet(torch.randn(1, 4, 8, 8), torch.tensor([7.0]), torch.randn(1, 77, 32))
    assert most[0] < Weights.of(model).unet / 2


class _Release:
    """Counts bytes as given back when the tensor that owns this is."""

    def __init__(self, held: list[int], size: int) -> None:
        self._held, self._size = held, size

    def __del__(self) -> None:
        self._held[0] -= self._size
