"""Names in the diffusers layout and in single files: one map, generated from a configuration and read in both directions.

A map goes from module path to module path; what is below a mapped module has the same names in both layouts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sfumato.engine.checkpoint.table import LazyTensor, StackedTensor
from sfumato.engine.models.config import UNetConfig
from sfumato.errors import CorruptFile

RESNET = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
    ("skip_connection", "conv_shortcut"),
)
VAE_ATTENTION = (("norm", "group_norm"), ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0"))
OLD_VAE_ATTENTION = (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("proj_attn", "to_out.0"))
"""Names of diffusers before 0.17."""
MAX_LEVELS = 16
CLIP_LAYER = (
    ("ln_1", "layer_norm1"),
    ("ln_2", "layer_norm2"),
    ("mlp.c_fc", "mlp.fc1"),
    ("mlp.c_proj", "mlp.fc2"),
    ("attn.out_proj", "self_attn.out_proj"),
)


def rename(name: str, modules: Mapping[str, str]) -> str | None:
    """`name` with its longest mapped module path replaced, or None where no part of it is mapped."""
    path, rest = name, ""
    while path:
        if path in modules:
            return modules[path] + rest
        path, dot, last = path.rpartition(".")
        rest = dot + last + rest
    return None


def inverted(modules: Mapping[str, str]) -> dict[str, str]:
    """The same map in the other direction."""
    return {new: old for old, new in modules.items()}


def unet_modules(num_res_blocks: Sequence[int], attended: Sequence[bool], *, label: str = "add_embedding") -> dict[str, str]:
    """Single-file module paths below `model.diffusion_model.` -> diffusers module paths below `unet`.

    Args:
        num_res_blocks: residual blocks of each level of the encoder.
        attended: whether each output block has a transformer; it decides the number of the upsampler behind it.
        label: diffusers' name of the vector condition's embedding; "class_embedding" for unCLIP.
    """
    pairs = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "label_emb.0.0": f"{label}.linear_1",
        "label_emb.0.2": f"{label}.linear_2",
        "input_blocks.0.0": "conv_in",
        "middle_block.1": "mid_block.attentions.0",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
    }
    pairs.update(_resnet("middle_block.0", "mid_block.resnets.0"))
    pairs.update(_resnet("middle_block.2", "mid_block.resnets.1"))
    pairs.update(_down(num_res_blocks))
    pairs.update(_up(num_res_blocks, attended))
    return pairs


def unet_modules_of(config: UNetConfig, *, label: str = "add_embedding") -> dict[str, str]:
    """`unet_modules` for a configuration."""
    return unet_modules(config.num_res_blocks, [depth > 0 for depth in config.transformer_depth_output], label=label)


def _resnet(native: str, diffusers: str) -> Iterator[tuple[str, str]]:
    return ((f"{native}.{ours}", f"{diffusers}.{theirs}") for ours, theirs in RESNET)


def _down(num_res_blocks: Sequence[int]) -> Iterator[tuple[str, str]]:
    i = 1
    for level, blocks in enumerate(num_res_blocks):
        for layer in range(blocks):
            yield from _resnet(f"input_blocks.{i}.0", f"down_blocks.{level}.resnets.{layer}")
            yield f"input_blocks.{i}.1", f"down_blocks.{level}.attentions.{layer}"
            i += 1
        if level < len(num_res_blocks) - 1:
            yield f"input_blocks.{i}.0.op", f"down_blocks.{level}.downsamplers.0.conv"
            i += 1


def _up(num_res_blocks: Sequence[int], attended: Sequence[bool]) -> Iterator[tuple[str, str]]:
    i = 0
    for level, blocks in enumerate(reversed(num_res_blocks)):
        for layer in range(blocks + 1):
            yield from _resnet(f"output_blocks.{i}.0", f"up_blocks.{level}.resnets.{layer}")
            if attended[i]:
                yield f"output_blocks.{i}.1", f"up_blocks.{level}.attentions.{layer}"
            i += 1
        if level < len(num_res_blocks) - 1:
            yield f"output_blocks.{i - 1}.{2 if attended[i - 1] else 1}.conv", f"up_blocks.{level}.upsamplers.0.conv"


def unet_from_diffusers(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """A diffusers UNet's tensors under single-file names below `model.diffusion_model.`; unknown names are kept as they are.

    Raises:
        CorruptFile: there are no blocks.
    """
    levels = _count(tensors, r"down_blocks\.(\d+)\.resnets\.")
    if not 0 < levels <= MAX_LEVELS:
        raise CorruptFile(f"The UNet has {levels} down_blocks.", advice="The folder does not hold a Stable Diffusion UNet.")
    blocks = [_count(tensors, rf"down_blocks\.{level}\.resnets\.(\d+)\.") for level in range(levels)]
    attended = [
        f"up_blocks.{level}.attentions.{layer}.norm.weight" in tensors
        for level, count in enumerate(reversed(blocks))
        for layer in range(count + 1)
    ]
    label = "class_embedding" if "class_embedding.linear_1.weight" in tensors else "add_embedding"
    return _renamed(tensors, inverted(unet_modules(blocks, attended, label=label)))


def _count(names: Iterable[str], pattern: str) -> int:
    compiled = re.compile(pattern)
    found = {int(match[1]) for name in names if (match := compiled.match(name)) and len(match[1]) < 4}
    return max(found, default=-1) + 1


def _renamed(tensors: Mapping[str, LazyTensor], modules: Mapping[str, str]) -> dict[str, LazyTensor]:
    return {rename(name, modules) or name: tensor for name, tensor in tensors.items()}


def vae_modules(levels: int, num_res_blocks: int) -> dict[str, str]:
    """Single-file module paths of an autoencoder with so many levels and blocks per level -> diffusers module paths."""
    pairs = {}
    for half in ("encoder", "decoder"):
        pairs[f"{half}.norm_out"] = f"{half}.conv_norm_out"
        for i in (1, 2):
            pairs[f"{half}.mid.block_{i}"] = f"{half}.mid_block.resnets.{i - 1}"
        for ours, theirs in VAE_ATTENTION:
            pairs[f"{half}.mid.attn_1.{ours}"] = f"{half}.mid_block.attentions.0.{theirs}"
        for part in ("conv_in", "conv_out"):
            pairs[f"{half}.{part}"] = f"{half}.{part}"
    for part in ("quant_conv", "post_quant_conv"):
        pairs[part] = part
    for level in range(levels):
        ups = levels - 1 - level
        pairs[f"encoder.down.{level}.downsample.conv"] = f"encoder.down_blocks.{level}.downsamplers.0.conv"
        pairs[f"decoder.up.{level}.upsample.conv"] = f"decoder.up_blocks.{ups}.upsamplers.0.conv"
        for block in range(num_res_blocks + 1):
            for ours, theirs in (
                (f"encoder.down.{level}", f"encoder.down_blocks.{level}"),
                (f"decoder.up.{level}", f"decoder.up_blocks.{ups}"),
            ):
                pairs[f"{ours}.block.{block}"] = f"{theirs}.resnets.{block}"
                pairs[f"{ours}.block.{block}.nin_shortcut"] = f"{theirs}.resnets.{block}.conv_shortcut"
    return pairs


def vae_from_diffusers(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """A diffusers autoencoder's tensors, of any version, under single-file names without `first_stage_model.`."""
    levels = _count(tensors, r"encoder\.down_blocks\.(\d+)\.")
    blocks = _count(tensors, r"encoder\.down_blocks\.0\.resnets\.(\d+)\.")
    modules = inverted(vae_modules(levels, blocks))
    for half in ("encoder", "decoder"):
        for old, new in OLD_VAE_ATTENTION:
            place = f"{half}.mid_block.attentions.0."
            modules[place + old] = modules[place + new]
    return _renamed(tensors, modules)


def open_clip_modules(layers: int) -> dict[str, str]:
    """OpenCLIP module paths and parameters -> Hugging Face's, except the stacked projections and `text_projection`."""
    pairs = {
        "token_embedding": "text_model.embeddings.token_embedding",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final": "text_model.final_layer_norm",
    }
    for i in range(layers):
        for ours, theirs in CLIP_LAYER:
            pairs[f"transformer.resblocks.{i}.{ours}"] = f"text_model.encoder.layers.{i}.{theirs}"
    return pairs


def text_to_open_clip(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """A Hugging Face text encoder's tensors under OpenCLIP names: projections stacked, `text_projection` transposed.

    OpenCLIP computes `x @ P`, a linear layer `x @ W.T`.
    """
    layers = _count(tensors, r"text_model\.encoder\.layers\.(\d+)\.")
    modules = inverted(open_clip_modules(layers))
    result = {new: tensor for name, tensor in tensors.items() if (new := rename(name, modules)) is not None}
    for i in range(layers):
        for kind in ("weight", "bias"):
            names = [f"text_model.encoder.layers.{i}.self_attn.{part}_proj.{kind}" for part in "qkv"]
            if all(name in tensors for name in names):
                stacked = StackedTensor(tuple(tensors[name] for name in names))
                result[f"transformer.resblocks.{i}.attn.in_proj_{kind}"] = stacked
    for name in ("text_projection.weight", "text_projection"):
        if name in tensors:
            result["text_projection"] = tensors[name].transposed()
    if "logit_scale" in tensors:
        result["logit_scale"] = tensors["logit_scale"]
    return result


def text_from_open_clip(tensors: Mapping[str, LazyTensor], *, layers: int) -> dict[str, LazyTensor]:
    """The first `layers` layers of an OpenCLIP text encoder under Hugging Face names; the reverse of `text_to_open_clip`."""
    modules = open_clip_modules(layers)
    result = {new: tensor for name, tensor in tensors.items() if (new := rename(name, modules)) is not None}
    for i in range(layers):
        for kind in ("weight", "bias"):
            stacked = tensors[f"transformer.resblocks.{i}.attn.in_proj_{kind}"]
            width = stacked.shape[0] // 3
            for n, part in enumerate("qkv"):
                name = f"text_model.encoder.layers.{i}.self_attn.{part}_proj.{kind}"
                result[name] = stacked.rows(n * width, (n + 1) * width)
    if "text_projection" in tensors:
        result["text_projection.weight"] = tensors["text_projection"].transposed()
    return result
