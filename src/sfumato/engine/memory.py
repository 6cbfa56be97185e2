"""When memory runs out: one kind of error, with advice that fits the request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sfumato.errors import OutOfMemory
from sfumato.request import Generation, Txt2Img

_CPU_WORDS = ("not enough memory", "can't allocate memory", "DefaultCPUAllocator", "MPS backend out of memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch or Python means that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU_WORDS)


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
