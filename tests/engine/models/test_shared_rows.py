"""The part of the UNet that does not see the text is computed once for equal rows."""

import pytest
import torch

from sfumato.engine.models.attention import ContextKV, Residuals, Seams
from sfumato.engine.models.blocks import ResBlock
from sfumato.engine.models.config import UNetConfig
from sfumato.engine.models.unet import UNet

TINY = UNetConfig(model_channels=32, norm_num_groups=8, context_dim=24)


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    return UNet(TINY).eval()


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    assert (a - b).abs().max() <= 1e-5 * b.abs().max()


@torch.inference_mode()
def test_equal_rows_give_what_each_gives_alone(unet: UNet) -> None:
    x, timesteps, context = torch.randn(1, 4, 16, 24), torch.tensor([321.0]), torch.randn(2, 77, 24)
    both = unet(x.repeat(2, 1, 1, 1), timesteps.repeat(2), context)
    close(both, torch.cat([unet(x, timesteps, row[None]) for row in context]))
    assert not torch.equal(both[0], both[1])


@torch.inference_mode()
def test_first_block_sees_one_row(unet: UNet) -> None:
    rows = []
    block = next(module for module in unet.modules() if isinstance(module, ResBlock))
    hook = block.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[0]))
    x, timesteps, context = torch.randn(1, 4, 16, 16), torch.tensor([5.0]), torch.randn(3, 77, 24)
    unet(x.repeat(3, 1, 1, 1), timesteps.repeat(3), context)
    unet(torch.randn(3, 4, 16, 16), timesteps.repeat(3), context)
    hook.remove()
    assert rows == [1, 3]


@torch.inference_mode()
def test_residuals_that_differ_by_row(unet: UNet) -> None:
    x, timesteps, context = torch.randn(1, 4, 16, 16), torch.tensor([5.0]), torch.randn(2, 77, 24)
    extra, skip = torch.randn(2, 32, 16, 16), torch.randn(2, 32, 16, 16)

    def run(rows: slice, kv: ContextKV) -> torch.Tensor:
        count = kv.batch
        seams = Seams(residuals=Residuals(skips=(None, skip[rows]), inputs={0: extra[rows]}))
        return unet(x.repeat(count, 1, 1, 1), timesteps.repeat(count), kv, seams=seams)

    kv = unet.project_context(context)
    alone = torch.cat([run(slice(i, i + 1), kv.select(slice(i, i + 1))) for i in range(2)])
    close(run(slice(0, 2), kv), alone)
