"""Saving models: as a single file in the native layout, or as a diffusers folder; and converting one file into another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from sfumato.engine.checkpoint.export import export_folder
from sfumato.engine.checkpoint.family import detect
from sfumato.engine.checkpoint.open import open_model, open_vae
from sfumato.engine.checkpoint.table import GivenTensor, LazyTensor, TensorTable
from sfumato.engine.checkpoint.writer import write_safetensors
from sfumato.engine.models.config import ModelSpec
from sfumato.engine.models.diffusion import DiffusionModel
from sfumato.engine.models.vae import AutoencoderKL
from sfumato.errors import InvalidRequest, Unsupported

Layout = Literal["single", "diffusers"]

ARCHITECTURES: Mapping[str, str] = {
    "sd1": "stable-diffusion-v1",
    "sd2": "stable-diffusion-v2-512",
    "sd2-v": "stable-diffusion-v2-768-v",
    "sdxl": "stable-diffusion-xl-v1-base",
    "sdxl-refiner": "stable-diffusion-xl-v1-refiner",
}
"""Names of modelspec 1.0.1."""
PREDICTIONS: Mapping[str, str] = {"eps": "epsilon", "v": "v", "flow": "flow"}


def save(
    model: DiffusionModel,
    path: str | Path,
    *,
    layout: Layout = "single",
    dtype: torch.dtype | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Save a model.

    Args:
        model: with its weights.
        path: a file (single) or a folder (diffusers), which is made.
        layout: "single" for a safetensors file with the names of single files; "diffusers" for a folder.
        dtype: of the saved weights; None keeps theirs.
        metadata: further texts for the header of a single file; they go before ours.

    Raises:
        DiskFull: nothing is left behind.
        Unsupported: the diffusers layout cannot express the model.
        NotFound: the place may not be written to.
    """
    tensors: dict[str, LazyTensor] = {name: GivenTensor(value) for name, value in model.state_dict().items()}
    _write(TensorTable(Path(path), tensors), model.spec, Path(path), layout, dtype, metadata or {})


def save_vae(vae: AutoencoderKL, path: str | Path, *, dtype: torch.dtype | None = None) -> None:
    """Save an autoencoder in a file of its own, without a prefix; errors as for `save`."""
    metadata = {
        "modelspec.sai_model_spec": "1.0.1",
        "sfumato.scale_factor": json.dumps(vae.config.scale_factor),
        "sfumato.vae_norm_num_groups": json.dumps(vae.config.norm_num_groups),
    }
    write_safetensors(Path(path), _given(vae), metadata=metadata, dtype=dtype)


def _given(module: nn.Module) -> dict[str, LazyTensor]:
    return {name: GivenTensor(value) for name, value in module.state_dict().items()}


def convert(
    source: str | Path,
    target: str | Path,
    *,
    layout: Layout = "single",
    dtype: torch.dtype | None = None,
    ema: bool | None = None,
    vae: str | Path | None = None,
) -> ModelSpec:
    """Turn a checkpoint or folder of any kind that can be read into another; one tensor is in memory at a time.

    Args:
        source: file or folder.
        target: file (single) or folder (diffusers); not the source.
        layout, dtype: as for `save`.
        ema, vae: as for `load`.

    Returns:
        what the model was found to be.

    Raises:
        InvalidRequest: source and target are the same.
        NotFound, CorruptFile, UnsafeFile, Unsupported, DiskFull: as for `load` and `save`.
    """
    source, target = Path(source), Path(target)
    if source.absolute() == target.absolute() or (target.exists() and target.samefile(source)):
        raise InvalidRequest("Source and target are the same file.", advice="Give another name for the result.")
    opened = open_model(source, ema=ema)
    if vae is not None:
        opened = opened.with_vae(open_vae(Path(vae)))
    spec = detect(opened.table, opened.hints)
    kept = {name: text for name, text in opened.table.metadata.items() if not name.startswith("sfumato.") and name != "format"}
    _write(opened.table, spec, target, layout, dtype, kept)
    return spec


def _write(
    table: TensorTable, spec: ModelSpec, path: Path, layout: Layout, dtype: torch.dtype | None, metadata: Mapping[str, str]
) -> None:
    if layout == "diffusers":
        export_folder(table, spec, path, dtype=dtype)
    elif layout == "single":
        write_safetensors(path, table, metadata=metadata_of(spec) | dict(metadata) | _facts(spec), dtype=dtype)
    else:
        raise Unsupported(f"There is no layout {layout!r}.", advice="Possible are 'single' and 'diffusers'.")


def metadata_of(spec: ModelSpec) -> dict[str, str]:
    """What modelspec 1.0.1 wants a header to say."""
    kind = "sd2-v" if spec.family == "sd2" and spec.prediction == "v" else spec.family
    architecture = ARCHITECTURES.get(kind, spec.family)
    return {
        "format": "pt",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": architecture if spec.variant == "base" else f"{architecture}-{spec.variant}",
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models",
        "modelspec.title": spec.title or "untitled",
        "modelspec.date": date.today().isoformat(),
        "modelspec.resolution": f"{spec.size}x{spec.size}",
        "modelspec.prediction_type": PREDICTIONS[spec.prediction],
    }


def _facts(spec: ModelSpec) -> dict[str, str]:
    """What shapes do not tell, so that loading gives the same specification; the reverse of `hints_from_metadata`."""
    text = spec.text[0].config
    facts: dict[str, object] = {
        "zero_terminal_snr": spec.zero_terminal_snr,
        "vae_norm_num_groups": spec.vae.norm_num_groups,
        "num_heads": spec.unet.num_heads,
        "head_dim": spec.unet.head_dim,
        "text_heads": [encoder.config.heads for encoder in spec.text],
        "text_skip": [encoder.skip for encoder in spec.text],
        "text_activation": text.activation if text.layout == "hf" else None,
        "linear_start": spec.linear_start,
        "linear_end": spec.linear_end,
        "timesteps": spec.timesteps,
        "scale_factor": spec.vae.scale_factor,
    }
    known = {f"sfumato.{name}": json.dumps(value) for name, value in facts.items() if value is not None}
    return {
        "norm_num_groups": str(spec.unet.norm_num_groups),
        "modelspec.prediction_type": PREDICTIONS[spec.prediction],
        "modelspec.resolution": f"{spec.size}x{spec.size}",
        **known,
    }
