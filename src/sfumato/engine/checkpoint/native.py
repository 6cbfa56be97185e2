"""Single-file checkpoints in all their spellings, brought to one: the names of `DiffusionModel`."""

from __future__ import annotations

import re
from collections.abc import Mapping

from sfumato.engine.checkpoint.family import CLIP_PREFIX, OPEN_CLIP_PREFIX, UNET, VAE
from sfumato.engine.checkpoint.table import LazyTensor, TensorTable
from sfumato.errors import NotFound

EMA = "model_ema."
SCHEDULE_BUFFER = re.compile(
    r"(betas|alphas_cumprod\w*|sqrt_\w+|log_one_minus_\w+|posterior_\w+|logvar|lvlb_weights|scale_factor|global_step)"
)
DROPPED_PREFIXES = ("loss.", EMA, "denoiser.", "model_ema_", "optimizer")
NEVER_LOADED = ("position_ids", "attn_mask")
"""Last parts of names whose values are constants: models make them themselves, and files hold them in wrong dtypes."""
OLD_CLIP = re.compile(
    r"((?:cond_stage_model|conditioner\.embedders\.\d)\.transformer\.)((?:embeddings|encoder|final_layer_norm)\.)"
)


def to_native(table: TensorTable, *, ema: bool = False) -> TensorTable:
    """A single file's tensors under native names.

    Handled: a bare UNet without prefix, CLIP names without `text_model.`, SD1 and SD2 in SGM's layout (`conditioner.`), averaged
    weights, training leftovers (`loss.`, schedule buffers, constants).

    Args:
        table: of the file.
        ema: take the averaged weights (`model_ema.*`) instead of the plain ones.

    Raises:
        NotFound: `ema` is asked for and the file has no averaged weights.
    """
    tensors = dict(table)
    if ema:
        tensors |= _averaged(tensors)
    tensors = {_renamed(name): tensor for name, tensor in tensors.items() if not _dropped(name)}
    if not any(name.startswith(UNET) for name in tensors) and "input_blocks.0.0.weight" in tensors:
        bare = ("input_blocks.", "middle_block.", "output_blocks.", "out.", "time_embed.", "label_emb.")
        tensors = {UNET + name if name.startswith(bare) else name: tensor for name, tensor in tensors.items()}
    return table.replaced(_from_sgm(tensors))


def _averaged(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """The averaged weights under their plain names; LDM stores them with every dot taken out of the name."""
    found = {
        name: tensors[key]
        for name in tensors
        if name.startswith("model.") and (key := EMA + name.removeprefix("model.").replace(".", "")) in tensors
    }
    if not found:
        raise NotFound("The file has no averaged (EMA) weights.", advice="Load it without 'ema'.")
    return found


def _dropped(name: str) -> bool:
    return (
        name.startswith(DROPPED_PREFIXES)
        or SCHEDULE_BUFFER.fullmatch(name) is not None
        or name.rpartition(".")[2] in NEVER_LOADED
    )


def _renamed(name: str) -> str:
    if name.startswith("diffusion_model."):
        return "model." + name
    old = OLD_CLIP.match(name)
    return f"{old[1]}text_model.{name[len(old[1]) :]}" if old else name


def _from_sgm(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """SD1 and SD2 saved by SGM name their text encoder like SDXL's; the missing vector condition tells them apart."""
    first = "conditioner.embedders.0."
    if UNET + "label_emb.0.0.weight" in tensors or any(name.startswith("conditioner.embedders.1.") for name in tensors):
        return dict(tensors)
    renames = ((first + "transformer.", CLIP_PREFIX), (first + "model.", OPEN_CLIP_PREFIX))
    result = {}
    for name, tensor in tensors.items():
        for old, new in renames:
            if name.startswith(old):
                name = new + name[len(old) :]
        result[name] = tensor
    return result


def vae_to_native(table: TensorTable) -> TensorTable:
    """The tensors of an autoencoder in a file of its own, or of the one in a checkpoint, under `first_stage_model.`.

    Accepted: names with and without `first_stage_model.`; training leftovers are dropped. Diffusers' names are another matter
    (`keys`).
    """
    prefixed = any(name.startswith(VAE) for name in table)
    kept = {name: tensor for name, tensor in table.items() if not _dropped(name) and (not prefixed or name.startswith(VAE))}
    inner = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
    if prefixed:
        return table.replaced(kept)
    return table.replaced({VAE + name: tensor for name, tensor in kept.items() if name.startswith(inner)})
