"""Weights into a model: built without memory, then every tensor read once, in file order, straight to where it will stay."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import psutil
import torch
from torch import Tensor, nn

from sfumato.engine.checkpoint.family import VAE, detect, vae_of
from sfumato.engine.checkpoint.hints import Hints
from sfumato.engine.checkpoint.open import open_model, open_vae
from sfumato.engine.checkpoint.table import LazyTensor, StoredTensor, TensorTable
from sfumato.engine.models.config import PredictionKind
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.models.vae import AutoencoderKL
from sfumato.engine.process import prepare_process
from sfumato.errors import CorruptFile, OutOfMemory

log = logging.getLogger(__name__)

Built = TypeVar("Built", bound=nn.Module)

READ_AHEAD = 64 << 20
OPTIONAL = ("logit_scale",)
"""Last parts of names that a file may lack because nothing computes with them."""


def load(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    vae: str | Path | None = None,
    text: str | Path | None = None,
    ema: bool | None = None,
    prediction: PredictionKind | None = None,
    hints: Hints = Hints(),  # noqa: B008 - frozen
    channels_last: bool = True,
) -> DiffusionModel:
    """A model, ready to run, in a process that is made ready for it (`prepare_process`).

    Args:
        path: a .safetensors, .ckpt, .pt or .bin file, or a diffusers folder; told apart by content.
        dtype: of all floating-point weights, whatever they are stored in.
        device: where they go.
        vae: a file or folder whose autoencoder is used instead of the model's own.
        text: a checkpoint whose text encoders are used instead of the model's own.
        ema: averaged weights (True), plain ones (False), or what a yaml beside the file says.
        prediction: what the UNet predicts, where the detection is wrong.
        hints: anything else that is known better than the file tells.
        channels_last: lay out convolution weights as [out, h, w, in], in which they compute faster.

    Raises:
        NotFound: no such file, or no averaged weights in it.
        CorruptFile: cut or incomplete; names what is missing and what to add.
        UnsafeFile: a pickle with code in it, or beyond the bounds of `limits`.
        Unsupported: a model or format of another kind.
        OutOfMemory: the weights would not fit; found before anything is read.
    """
    prepare_process()
    source = open_model(Path(path), ema=ema)
    if vae is not None:
        source = source.with_vae(open_vae(Path(vae)))
    if text is not None:
        source = source.with_text(open_model(Path(text)))
    known = replace(hints, prediction=prediction or hints.prediction).over(source.hints)
    spec = detect(source.table, known)
    model = _built(lambda: DiffusionModel(spec))
    assign(model, source.table, dtype=dtype, device=torch.device(device), channels_last=channels_last)
    return model


def load_vae(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    scale_factor: float = 0.18215,
    channels_last: bool = True,
) -> AutoencoderKL:
    """An autoencoder by itself; arguments and errors as for `load`.

    Args:
        scale_factor: of the family it is for; a file that tells its own goes before.
    """
    source = open_vae(Path(path))
    config = vae_of(source.table, source.hints, scale_factor)
    vae = _built(lambda: AutoencoderKL(config))
    table = source.table.replaced(source.table.below(VAE))
    assign(vae, table, dtype=dtype, device=torch.device(device), channels_last=channels_last)
    return vae


def _built(make: Callable[[], Built]) -> Built:
    """A module on the meta device; widths, heads and groups of a file that do not go together are CorruptFile."""
    try:
        with torch.device("meta"):
            return make()
    except (ValueError, RuntimeError) as error:
        raise CorruptFile(
            f"The model's sizes do not go together: {str(error)[:200]}.",
            advice="The file is damaged, or its metadata or the yaml beside it belongs to another model.",
        ) from error


def assign(module: nn.Module, table: TensorTable, *, dtype: torch.dtype, device: torch.device, channels_last: bool) -> None:
    """Give a module that was built on the meta device its weights, each read once in file order.

    Args:
        module: whose state names are those of `table`. It is left in evaluation mode, without gradients.
        table: may hold more than the module wants; that is logged and ignored.

    Raises:
        CorruptFile: tensors are missing or have other shapes; lists them.
        OutOfMemory: found before anything is read.
    """
    for warning in table.warnings:
        log.warning("%s: %s", table.path.name, warning)
    wanted = module.state_dict()
    matched = _match(wanted, table)
    check_memory(
        sum(value.numel() * (dtype if value.is_floating_point() else value.dtype).itemsize for value in wanted.values()), device
    )
    state: dict[str, Tensor] = {}
    ordered = sorted(matched, key=lambda name: matched[name].position)
    reached = 0
    for name in ordered:
        tensor = matched[name]
        if isinstance(tensor, StoredTensor) and tensor.position + tensor.nbytes > reached - READ_AHEAD // 2:
            reached = tensor.position + tensor.nbytes + READ_AHEAD
            tensor.source.read_ahead(tensor.position, tensor.nbytes + READ_AHEAD)
        state[name] = place(tensor, dtype=dtype, device=device, channels_last=channels_last)
    for name in wanted.keys() - matched.keys():
        state[name] = torch.full(wanted[name].shape, 4.6052, dtype=dtype, device=device)  # ln 100, where CLIP's training ends
    module.load_state_dict(state, assign=True)
    module.requires_grad_(False).eval()


def place(tensor: LazyTensor, *, dtype: torch.dtype, device: torch.device, channels_last: bool) -> Tensor:
    """Read a tensor into fresh memory in its final dtype, memory format and place."""
    wanted = dtype if tensor.dtype.is_floating_point else tensor.dtype
    layout = torch.channels_last if channels_last and len(tensor.shape) == 4 else torch.contiguous_format
    if device.type == "cpu":
        return tensor.read(into=torch.empty(tensor.shape, dtype=wanted, memory_format=layout))
    moved = tensor.read().to(device)  # converted there: less to carry, and faster
    return moved.to(wanted).contiguous(memory_format=layout)


def _match(wanted: dict[str, Tensor], table: TensorTable) -> dict[str, LazyTensor]:
    missing = [name for name in wanted if name not in table and name.rpartition(".")[2] not in OPTIONAL]
    if missing:
        raise CorruptFile(
            f"{table.path.name} lacks {len(missing)} tensors: {_listing(missing)}.",
            advice="The file is incomplete, or the model is of a kind that is not known here.",
        )
    unused = [name for name in table if name not in wanted]
    if unused:
        log.info("%s: %d tensors are not used: %s", table.path.name, len(unused), _listing(unused))
    matched = {}
    wrong = []
    for name, target in wanted.items():
        if name not in table:
            continue
        tensor, shape = table[name], tuple(target.shape)
        if tensor.shape != shape and _squeezed(tensor.shape) == _squeezed(shape):  # 1x1 convolution or linear
            tensor = tensor.reshaped(shape)
        if tensor.shape != shape:
            wrong.append(f"{name} is {list(tensor.shape)} instead of {list(shape)}")
        matched[name] = tensor
    if wrong:
        raise CorruptFile(
            f"{table.path.name} has tensors of a wrong shape: {_listing(wrong)}.", advice="The model is damaged or mixed up."
        )
    return matched


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _listing(names: list[str], shown: int = 5) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def check_memory(needed: int, device: torch.device) -> None:
    """Raise OutOfMemory, with what can be done, where `needed` bytes do not fit in the memory that is free now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
    else:
        free = psutil.virtual_memory().available
    if needed > free:
        raise OutOfMemory(
            f"The weights need {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free.",
            advice="Close other programs, load with a smaller dtype (float16, bfloat16), or use a smaller model.",
        )
