"""From our names to diffusers', written apart from the product's own map so that the two check each other."""

from collections.abc import Iterator

from torch import nn

from sfumato.engine.models.blocks import Downsample, ResBlock, Upsample
from sfumato.engine.models.unet import UNet
from sfumato.engine.models.vae import AutoencoderKL

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


def unet_prefixes(unet: UNet) -> Iterator[tuple[str, str]]:
    """(our prefix, diffusers' prefix) of every part of a UNet."""
    added = "add_embedding" if unet.config.adm_in_channels else ""
    yield from (("time_embed.0", "time_embedding.linear_1"), ("time_embed.2", "time_embedding.linear_2"))
    if added:
        yield from (("label_emb.0.0", f"{added}.linear_1"), ("label_emb.0.2", f"{added}.linear_2"))
    yield from (("input_blocks.0.0", "conv_in"), ("out.0", "conv_norm_out"), ("out.2", "conv_out"))
    level = layer = 0
    for number, stage in enumerate(unet.input_blocks[1:], start=1):
        ours, theirs = f"input_blocks.{number}", f"down_blocks.{level}"
        yield from stage_prefixes(stage, ours, theirs, layer)
        down = isinstance(stage[0], Downsample)
        level, layer = (level + 1, 0) if down else (level, layer + 1)
    if len(unet.middle_block):
        yield from residual_prefixes("middle_block.0", "mid_block.resnets.0")
    if len(unet.middle_block) == 3:
        yield "middle_block.1", "mid_block.attentions.0"
        yield from residual_prefixes("middle_block.2", "mid_block.resnets.1")
    level = layer = 0
    for number, stage in enumerate(unet.output_blocks):
        yield from stage_prefixes(stage, f"output_blocks.{number}", f"up_blocks.{level}", layer)
        up = isinstance(stage[-1], Upsample)
        level, layer = (level + 1, 0) if up else (level, layer + 1)


def residual_prefixes(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for mine, other in RESNET.items():
        yield f"{ours}.{mine}", f"{theirs}.{other}"


def stage_prefixes(stage: nn.ModuleList, ours: str, theirs: str, layer: int) -> Iterator[tuple[str, str]]:
    for place, module in enumerate(stage):
        if isinstance(module, ResBlock):
            yield from residual_prefixes(f"{ours}.{place}", f"{theirs}.resnets.{layer}")
        elif isinstance(module, Downsample):
            yield f"{ours}.{place}.op", f"{theirs}.downsamplers.0.conv"
        elif isinstance(module, Upsample):
            yield f"{ours}.{place}.conv", f"{theirs}.upsamplers.0.conv"
        else:
            yield f"{ours}.{place}", f"{theirs}.attentions.{layer}"


def vae_prefixes(vae: AutoencoderKL) -> Iterator[tuple[str, str]]:
    """(our prefix, diffusers' prefix) of every part of an autoencoder."""
    levels = len(vae.config.ch_mult)
    yield from (("quant_conv", "quant_conv"), ("post_quant_conv", "post_quant_conv"))
    for side in ("encoder", "decoder"):
        yield from ((f"{side}.{part}", f"{side}.{part}") for part in ("conv_in", "conv_out"))
        yield f"{side}.norm_out", f"{side}.conv_norm_out"
        for block in (1, 2):
            yield f"{side}.mid.block_{block}", f"{side}.mid_block.resnets.{block - 1}"
        for mine, other in {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}.items():
            yield f"{side}.mid.attn_1.{mine}", f"{side}.mid_block.attentions.0.{other}"
    for level in range(levels):
        for block in range(vae.config.num_res_blocks + 1):
            if block < vae.config.num_res_blocks:
                yield f"encoder.down.{level}.block.{block}", f"encoder.down_blocks.{level}.resnets.{block}"
            yield f"decoder.up.{level}.block.{block}", f"decoder.up_blocks.{levels - 1 - level}.resnets.{block}"
        yield f"encoder.down.{level}.downsample.conv", f"encoder.down_blocks.{level}.downsamplers.0.conv"
        yield f"decoder.up.{level}.upsample.conv", f"decoder.up_blocks.{levels - 1 - level}.upsamplers.0.conv"


def translate(ours: nn.Module, theirs: nn.Module, prefixes: Iterator[tuple[str, str]]) -> dict:
    """Their tensors under our names, as views with our shapes; both sides must be used up."""
    table = dict(prefixes)
    tensors = dict(theirs.state_dict())
    result = {}
    for name, wanted in ours.state_dict().items():
        prefix = next(p for p in _parents(name) if p in table)
        tail = name[len(prefix) :].replace(".nin_shortcut.", ".conv_shortcut.")
        result[name] = tensors.pop(table[prefix] + tail).view(wanted.shape)
    assert not tensors, f"parameters of the reference that have no place here: {sorted(tensors)[:5]}"
    return result


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rsplit(".", 1)[0]
        yield name
