"""When memory runs out: one kind of error, with advice that fits the request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sfumato.engine.models.config import ModelSpec
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.residency import free_memory
from sfumato.errors import OutOfMemory
from sfumato.request import Generation, Txt2Img

_CPU_WORDS = ("not enough memory", "can't allocate memory", "DefaultCPUAllocator", "MPS backend out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch or Python means that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU_WORDS)


def least_memory(spec: ModelSpec, width: int, height: int) -> int:
    """Bytes that nobody can do without: what the UNet's decoder waits for while the encoder works, for one row in float32.

    Args:
        spec: of the model.
        width, height: of the picture in pixels.
    """
    unet, factor = spec.unet, spec.vae.downsampling
    rows, columns = height // factor, width // factor
    numbers = unet.model_channels * rows * columns
    last = len(unet.channel_mult) - 1
    for level, (multiple, blocks) in enumerate(zip(unet.channel_mult, unet.num_res_blocks, strict=True)):
        numbers += blocks * multiple * unet.model_channels * rows * columns
        if level < last:
            rows, columns = -(-rows // 2), -(-columns // 2)
            numbers += multiple * unet.model_channels * rows * columns
    return numbers * 4


def require_room(request: Generation, model: DiffusionModel, width: int, height: int) -> None:
    """Refuse a pass that cannot fit into main memory: there a system ends the process before an allocation fails.

    Raises:
        OutOfMemory: with what the user can change.
    """
    device = next(model.unet.parameters()).device
    if device.type != "cpu":
        return
    least = least_memory(model.spec, width, height)
    if least > (free := free_memory(device)):
        raise OutOfMemory(
            f"{width}x{height} pixels need at least {least / 2**30:.2f} GiB of memory, and {free / 2**30:.2f} GiB are free.",
            advice=_advice(request),
        )


@contextmanager
def advised(request: Generation) -> Iterator[None]:
    """Turn whatever a device raises when it is full into `OutOfMemory`, and give its memory back.

    Raises:
        OutOfMemory: with what the user can change.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(
            f"Memory ran out while making {request.batch_size} x {_size(request)} pixels.", advice=_advice(request)
        ) from error
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _size(request: Generation) -> str:
    width, height = request.hires_sizes.final if isinstance(request, Txt2Img) else (request.width, request.height)
    return f"{width}x{height}"


def _advice(request: Generation) -> str:
    tips = ["make fewer pictures at a time (--batch-size 1)"] if request.batch_size > 1 else []
    tips.append("choose a smaller size" if not getattr(request, "enable_hr", False) else "choose a smaller hires scale")
    tips.append("run with --medvram or --lowvram")
    return f"{', '.join(tips[:-1])}, or {tips[-1]}.".capitalize()
