"""Models larger than the device's memory: parts live in main memory and visit the device while they compute.

What A1111 calls `--medvram` and `--lowvram` is a `MemoryPlan` here: a value, made from what is free and what the parts
weigh, or asked for. `visiting` carries it out with hooks on the modules, so that no caller has to know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import psutil
import torch
from torch import Tensor, nn

from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.models.transformer import CrossAttention
from sfumato.errors import InvalidRequest

Level = Literal["high", "medium", "low"]

_HEADROOM = 0.9
"""Share of the free memory that a plan counts on; the rest goes to fragmentation and the driver."""

_WORK_PER_PIXEL = {2: 4_500, 4: 9_000}
"""Bytes of intermediate results per pixel of a picture, by bytes per number; UNet and autoencoder need about the same."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Sizes of a model's parts in bytes."""

    unet: int
    text: int
    vae: int

    @staticmethod
    def of(model: DiffusionModel) -> Weights:
        """Those of a model, also on the meta device."""
        return Weights(_bytes(model.unet), sum(_bytes(encoder) for encoder in model.text_encoders), _bytes(model.vae))

    @property
    def total(self) -> int:
        """All parts together."""
        return self.unet + self.text + self.vae


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Where the parts of a model are while it works.

    Attributes:
        level: "high": everything is on the device; "medium": text encoders and autoencoder visit it when they are needed
            (`--medvram`); "low": so does each block of the UNet (`--lowvram`).
        strips: pictures of any size go through the autoencoder in strips, see `engine.models.strips`.
        filters: bytes for transformed filters during sampling, see `kept_filters`.
    """

    level: Level
    strips: bool = False
    filters: int = 0


def choose_plan(
    weights: Weights, free: int, *, device: str, asked: str = "auto", pixels: int = 512 * 512, number_bytes: int = 2
) -> MemoryPlan:
    """The plan with the least moving that fits.

    Args:
        weights: in the format in which they will be on the device.
        free: bytes free on the device before the model is there.
        device: its kind; on "cpu" weights are where they compute, so nothing ever moves.
        asked: "high", "medium", "low" or "auto".
        pixels: of all pictures made at a time.
        number_bytes: bytes per number of the intermediate results.

    Raises:
        InvalidRequest: no such plan.
    """
    if asked not in ("auto", "high", "medium", "low"):
        raise InvalidRequest(f"There is no memory plan {asked[:60]!r}: give auto, high, medium or low.")
    work = pixels * _WORK_PER_PIXEL[4 if number_bytes > 2 else 2]
    room = int(free * _HEADROOM)
    if device == "cpu":
        # Only what was asked for may change the last bits of a picture, not what happens to be free.
        saving = asked in ("medium", "low")
        spare = max(0, room - weights.total - work)
        return MemoryPlan("high", strips=saving, filters=0 if saving else spare // 2)
    fits: dict[Level, bool] = {"high": weights.total + work <= room, "medium": weights.unet + work <= room, "low": True}
    level: Level = next(level for level, fit in fits.items() if (fit and asked in ("auto", level)) or asked == level)
    return MemoryPlan(level, strips=level == "low")


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; on MPS those that the system recommends to use."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return int(psutil.virtual_memory().available)


Fetch = Callable[[Tensor], Tensor]
"""Brings a tensor to the device where it is computed with."""


@contextmanager
def visiting(model: DiffusionModel, plan: MemoryPlan, device: torch.device, *, fetch: Fetch | None = None) -> Iterator[None]:
    """Let the parts of `model`, which is in main memory, compute on `device` as the plan says, for the length of the `with`.

    Afterwards all of it is in main memory again, unchanged. Weights are not copied back, as nothing changes them: networks
    are applied to the model before.

    Args:
        fetch: how a tensor is brought to the device, if not by `Tensor.to`.
    """
    bring = fetch or (lambda tensor: tensor.to(device, non_blocking=True))
    with ExitStack() as stack:
        stays, visits = _division(model, plan)
        for module in stays:
            visitor = _Visitor(module, bring)
            visitor.arrive()
            stack.callback(visitor.leave)
        for module in visits:
            stack.enter_context(_on_call(_Visitor(module, bring), module, bring))
        yield


def _division(model: DiffusionModel, plan: MemoryPlan) -> tuple[Sequence[nn.Module], Sequence[nn.Module]]:
    """What stays on the device all the time, and what visits it."""
    unet, vae = model.unet, model.vae
    if plan.level == "high":
        return [unet, vae, *model.text_encoders], []
    parts = [vae.encoder, vae.decoder, vae.quant_conv, vae.post_quant_conv, *model.text_encoders]
    if plan.level == "medium":
        return [unet], parts
    blocks = [*unet.input_blocks, unet.middle_block, *unet.output_blocks]
    # Keys and values of the text are projected before the first step, outside of the blocks.
    crossing = [module for module in unet.modules() if isinstance(module, CrossAttention) and module.site.kind == "cross"]
    projections = [layer for attention in crossing for layer in (attention.to_k, attention.to_v)]
    small = [child for name, child in unet.named_children() if not name.endswith(("_blocks", "_block"))]
    return small, [*parts, *blocks, *projections]


@dataclass(slots=True)
class _Visitor:
    """A module whose weights can be on the device; its own tensors are kept aside meanwhile."""

    module: nn.Module
    bring: Fetch
    home: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def arrive(self) -> None:
        """Bring what is not there yet."""
        if self.home:
            return
        # Outside of inference mode, as a parameter's data may not be replaced by a tensor made in it.
        with torch.inference_mode(False):
            for tensor in (*self.module.parameters(), *self.module.buffers()):
                own = tensor.data
                brought = self.bring(own)
                if brought is not own:
                    self.home.append((tensor, own))
                    tensor.data = brought

    def leave(self) -> None:
        """Put the module's own tensors back."""
        for tensor, data in self.home:
            tensor.data = data
        self.home.clear()


@contextmanager
def _on_call(visitor: _Visitor, module: nn.Module, bring: Fetch) -> Iterator[None]:
    """Bring a module whenever it is called, with the tensors it is called with, and send it home after."""

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        visitor.arrive()
        return tuple(_brought(arg, bring) for arg in args), {name: _brought(arg, bring) for name, arg in kwargs.items()}

    def after(_: nn.Module, args: object, result: object) -> None:
        visitor.leave()

    handles = [
        module.register_forward_pre_hook(before, with_kwargs=True),
        module.register_forward_hook(after, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        visitor.leave()


def _brought(value: object, bring: Fetch) -> object:
    return bring(value) if isinstance(value, Tensor) else value


def _bytes(module: nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (*module.parameters(), *module.buffers()))
