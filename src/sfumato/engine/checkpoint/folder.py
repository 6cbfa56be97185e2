"""Models as a folder of parts, the layout of diffusers. Only JSON and weights are read; Python files and `auto_map` never."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from sfumato.engine.checkpoint.family import CLIP_PREFIX, OPEN_CLIP_PREFIX, UNET, VAE
from sfumato.engine.checkpoint.hints import Hints, hints_from_scheduler
from sfumato.engine.checkpoint.keys import text_to_open_clip, unet_from_diffusers, vae_from_diffusers
from sfumato.engine.checkpoint.native import to_native
from sfumato.engine.checkpoint.pickle_reader import read_pickle_table
from sfumato.engine.checkpoint.safetensors import read_safetensors
from sfumato.engine.checkpoint.sniff import sniff
from sfumato.engine.checkpoint.table import LazyTensor, TensorTable
from sfumato.errors import CorruptFile, NotFound, UnsafeFile, Unsupported

MAX_JSON = 16 << 20
STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
VARIANTS = ("", ".fp32", ".fp16", ".bf16", ".non_ema", ".ema")
"""In order of preference: full precision first."""
Config = Mapping[str, object]


def read_folder(path: Path) -> tuple[TensorTable, Hints]:
    """A diffusers model: its tensors under single-file names, and what its configuration files tell.

    Raises:
        NotFound: a part's folder or weights are missing; says which.
        Unsupported: a pipeline, UNet or schedule of another kind.
        CorruptFile, UnsafeFile: as for single files.
    """
    index = read_json(path / "model_index.json") if (path / "model_index.json").is_file() else {}
    _check_pipeline(str(index.get("_class_name", "StableDiffusionPipeline")))
    unet_file = read_part(path / "unet")
    unet_config, vae_settings = _config(path / "unet"), _config(path / "vae")
    tensors: dict[str, LazyTensor] = {UNET + name: tensor for name, tensor in unet_from_diffusers(unet_file).items()}
    tensors |= {VAE + name: tensor for name, tensor in vae_from_diffusers(read_part(path / "vae")).items()}
    texts = [path / name for name in ("text_encoder", "text_encoder_2") if (path / name).is_dir()]
    if not texts:
        raise NotFound(f"{path} has no folder 'text_encoder'.", advice="Copy the whole model, with all its folders.")
    text_hints = _add_texts(tensors, texts, unet_config)
    unet_hints = _unet_hints(unet_config, _downsampling(vae_settings))
    hints = _scheduler(path).over(unet_hints).over(_vae_hints(vae_settings)).over(text_hints)
    return to_native(TensorTable(path, tensors)), hints


def read_vae_folder(path: Path) -> tuple[TensorTable, Hints]:
    """The autoencoder of a diffusers model, or one in a folder of its own; errors as for `read_folder`."""
    folder = path / "vae" if (path / "vae").is_dir() else path
    tensors = {VAE + name: tensor for name, tensor in vae_from_diffusers(read_part(folder)).items()}
    return TensorTable(path, tensors), _vae_hints(_config(folder))


def read_part(folder: Path) -> TensorTable:
    """The tensors of one part, which may be split over several files.

    Raises:
        NotFound: the folder or its weights are missing.
        UnsafeFile: an index names files elsewhere.
        CorruptFile, Unsupported: of the weights.
    """
    for suffix in (".safetensors", ".bin"):
        for stem in STEMS:
            for variant in VARIANTS:
                name = f"{stem}{variant}{suffix}"
                if (folder / name).is_file():
                    return _read_weights(folder / name)
                for index in (f"{stem}{suffix}.index{variant}.json", f"{stem}{variant}{suffix}.index.json"):
                    if (folder / index).is_file():
                        return _read_shards(folder / index)
    raise NotFound(
        f"There are no weights in {folder}.",
        advice="Expected is a file like 'diffusion_pytorch_model.safetensors' or 'model.safetensors'.",
    )


def _read_weights(path: Path) -> TensorTable:
    return read_safetensors(path) if sniff(path) == "safetensors" else read_pickle_table(path)


def _read_shards(index: Path) -> TensorTable:
    weights = read_json(index).get("weight_map")
    if not isinstance(weights, dict):
        raise CorruptFile(f"{index.name} has no 'weight_map'.", advice="Download the model again.")
    tensors: dict[str, LazyTensor] = {}
    files = dict.fromkeys(str(file) for file in weights.values())
    if len(files) > 1000:
        raise UnsafeFile(f"{index.name} names {len(files)} files.", advice="No image model is split into so many.")
    for file in files:
        if Path(file).name != file or not (index.parent / file).is_file():
            raise NotFound(
                f"{index.name} names the file {file[:80]!r}, which is not beside it.", advice="Download the model again."
            )
        tensors |= _read_weights(index.parent / file)
    lacking = weights.keys() - tensors.keys()
    if lacking:
        raise CorruptFile(
            f"{index.parent.name} lacks {len(lacking)} of the tensors that its index lists.", advice="Download the model again."
        )
    return TensorTable(index, tensors)


def read_json(path: Path) -> dict[str, object]:
    """A JSON object in a file of at most 16 MiB.

    Raises:
        NotFound: no such file.
        UnsafeFile: too large.
        CorruptFile: not a JSON object.
    """
    if not path.is_file():
        raise NotFound(f"There is no {path.parent.name}/{path.name}.", advice="Copy the whole model, with all its files.")
    if path.stat().st_size > MAX_JSON:
        raise UnsafeFile(f"{path.name} is larger than {MAX_JSON >> 20} MiB.", advice="It is not a model's configuration.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"{path.name} is not readable JSON.", advice="Download the model again.") from error
    if not isinstance(content, dict):
        raise CorruptFile(f"{path.name} does not hold a JSON object.", advice="Download the model again.")
    return content


def _config(folder: Path) -> Config:
    return read_json(folder / "config.json") if (folder / "config.json").is_file() else {}


def _check_pipeline(name: str) -> None:
    if "StableDiffusion3" in name or not name.startswith(("StableDiffusion", "LatentConsistency", "StableUnCLIP")):
        raise Unsupported(f"The folder is for diffusers' {name[:80]}.", advice="Supported are Stable Diffusion 1, 2 and XL.")


def _add_texts(tensors: dict[str, LazyTensor], folders: list[Path], unet: Config) -> Hints:
    """Add the text encoders under the names that single files of their family have."""
    parts = [(read_part(folder), _config(folder)) for folder in folders]
    refined = len(parts) == 1 and folders[0].name == "text_encoder_2"
    if refined:
        prefixes = ["conditioner.embedders.0.model."]
    elif len(parts) == 2:
        prefixes = ["conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."]
    else:
        open_clip = parts[0][1].get("hidden_act") == "gelu" and bool(unet.get("use_linear_projection"))
        prefixes = [OPEN_CLIP_PREFIX if open_clip else CLIP_PREFIX]
    for (table, _), prefix in zip(parts, prefixes, strict=True):
        names = text_to_open_clip(table) if prefix.endswith(".model.") else dict(table)
        tensors.update({prefix + name: tensor for name, tensor in names.items()})
    heads = [config.get("num_attention_heads") for _, config in parts]
    known = tuple(head for head in heads if isinstance(head, int) and head > 0)
    activation = parts[0][1].get("hidden_act")
    return Hints(
        text_heads=known if len(known) == len(parts) else None,
        # What is saved of SD2's text encoder ends with the layer that is read.
        text_skip=(1,) if len(parts) == 1 and not refined else None,
        text_activation="gelu" if activation == "gelu" else "quick_gelu" if activation == "quick_gelu" else None,
    )


def _scheduler(path: Path) -> Hints:
    config = path / "scheduler" / "scheduler_config.json"
    return hints_from_scheduler(read_json(config)) if config.is_file() else Hints()


def _downsampling(vae: Config) -> int:
    """Pixels per latent cell and side."""
    levels = vae.get("block_out_channels")
    return 1 << (len(levels) - 1 if isinstance(levels, list) and 0 < len(levels) < 10 else 3)


def _unet_hints(config: Config, downsampling: int) -> Hints:
    """Heads and groups; diffusers calls the number of heads `attention_head_dim` unless both are given."""
    widths = config.get("block_out_channels")
    heads = config.get("num_attention_heads") or config.get("attention_head_dim")
    groups, sample = config.get("norm_num_groups"), config.get("sample_size")
    known = Hints(
        norm_num_groups=groups if isinstance(groups, int) and groups > 0 else None,
        size=sample * downsampling if isinstance(sample, int) and sample > 0 else None,
    )
    if not isinstance(widths, list) or heads is None:
        return known
    if isinstance(heads, int):
        return Hints(num_heads=heads).over(known)
    if isinstance(heads, list) and len(heads) == len(widths) and all(isinstance(n, int) and n > 0 for n in [*heads, *widths]):
        dims = {width // head for width, head in zip(widths, heads, strict=True)}
        if len(dims) == 1 and math.prod(heads):
            return Hints(head_dim=dims.pop()).over(known)
        if len(set(heads)) == 1:
            return Hints(num_heads=heads[0]).over(known)
    raise Unsupported(
        f"The UNet has {str(heads)[:60]} attention heads for widths {str(widths)[:60]}.",
        advice="One number of heads, or one width of heads, is needed.",
    )


def _vae_hints(config: Config) -> Hints:
    scale, groups = config.get("scaling_factor"), config.get("norm_num_groups")
    return Hints(
        scale_factor=float(scale) if isinstance(scale, (int, float)) and 0 < scale < 1e6 else None,
        vae_norm_num_groups=groups if isinstance(groups, int) and groups > 0 else None,
    )
