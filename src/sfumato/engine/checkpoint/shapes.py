"""Configurations read off the names and shapes of a checkpoint's tensors."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol

from sfumato.engine.models.config import TextConfig, UNetConfig, VAEConfig
from sfumato.errors import CorruptFile, UnsafeFile


class Shaped(Protocol):
    """Anything with a shape: a tensor in memory, on the meta device or in a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its dimensions."""
        ...


Shapes = Mapping[str, Shaped]


MAX_PIECES = 12
MAX_BLOCKS = 256


@dataclass(frozen=True)
class Part:
    """The tensors below one prefix of a checkpoint, asked for by name.

    Attributes:
        shapes: names, without the prefix, and their shapes.
        what: the part's name for messages.
    """

    shapes: Mapping[str, tuple[int, ...]]
    what: str

    @classmethod
    def below(cls, table: Shapes, prefix: str, what: str) -> Part:
        """The part of `table` whose names begin with `prefix`."""
        return cls({name[len(prefix) :]: tuple(table[name].shape) for name in table if name.startswith(prefix)}, what)

    def size(self, name: str, axis: int) -> int:
        """One dimension of a tensor that must be there and must not be empty (else CorruptFile)."""
        shape = self.shapes.get(name)
        if shape is None or len(shape) <= axis or shape[axis] < 1:
            raise CorruptFile(
                f"The {self.what} lacks the tensor {name!r}, or it is empty or has the wrong rank.",
                advice="The file is incomplete, or the model is of a kind that is not known here.",
            )
        return shape[axis]

    @cached_property
    def numbered(self) -> Mapping[str, frozenset[int]]:
        """The numbers that follow each beginning of a name: "layers." -> {0, 1, ...}. Made in one pass over all names."""
        found: dict[str, set[int]] = defaultdict(set)
        for name in self.shapes:
            pieces = name.split(".", MAX_PIECES)
            for i, piece in enumerate(pieces[1:MAX_PIECES], start=1):
                if piece.isdecimal() and len(piece) < 6:
                    found[".".join(pieces[:i]) + "."].add(int(piece))
        return {beginning: frozenset(numbers) for beginning, numbers in found.items()}

    def count(self, beginning: str) -> int:
        """How many consecutive numbers, from 0, follow `beginning`; more than 256 are no model (UnsafeFile)."""
        numbers = self.numbered.get(beginning, frozenset())
        if len(numbers) > MAX_BLOCKS:
            raise UnsafeFile(f"The {self.what} has {len(numbers)} {beginning[:40]!r}.", advice="No known model has so many.")
        return next(n for n in range(len(numbers) + 1) if n not in numbers)


def groups_for(width: int) -> int:
    """Groups of a GroupNorm where nothing tells: 32, or for a width it does not divide the largest power of two that does."""
    return math.gcd(32, width)


def unet_config(unet: Part, *, groups: int | None = None, heads: int | None = None, head_dim: int | None = None) -> UNetConfig:
    """The UNet's configuration from its tensors.

    Args:
        unet: names below `model.diffusion_model.`.
        groups, heads, head_dim: what shapes do not tell, where it is known. By default 32 groups; 8 heads where `proj_in` is a
            convolution (SD1), heads 64 wide where it is linear; each halved until it divides every width it applies to.

    Raises:
        CorruptFile: tensors are missing or contradict each other.
    """
    channels = unet.size("input_blocks.0.0.weight", 0)
    mults, blocks, depths = _encoder_levels(unet, channels)
    projection = next((shape for name, shape in unet.shapes.items() if name.endswith(".proj_in.weight")), None)
    linear = projection is not None and len(projection) == 2
    if heads is None and head_dim is None:
        common = math.gcd(*_attention_widths(unet)) if projection else 64
        heads, head_dim = (None, math.gcd(64, common)) if linear else (math.gcd(8, common), None)
    keys = next((name for name in unet.shapes if name.endswith("attn2.to_k.weight")), None)
    return UNetConfig(
        in_channels=unet.size("input_blocks.0.0.weight", 1),
        out_channels=unet.size("out.2.weight", 0),
        model_channels=channels,
        channel_mult=tuple(mults),
        num_res_blocks=tuple(blocks),
        transformer_depth=tuple(depths),
        transformer_depth_middle=unet.count("middle_block.1.transformer_blocks.") if unet.count("middle_block.") else -1,
        transformer_depth_output=tuple(
            unet.count(f"output_blocks.{i}.1.transformer_blocks.") for i in range(unet.count("output_blocks."))
        ),
        context_dim=unet.size(keys, 1) if keys else 0,
        num_heads=heads if head_dim is None else None,
        head_dim=head_dim,
        use_linear_projection=linear,
        adm_in_channels=unet.size("label_emb.0.0.weight", 1) if "label_emb.0.0.weight" in unet.shapes else None,
        norm_num_groups=groups or groups_for(channels),
    )


def _encoder_levels(unet: Part, channels: int) -> tuple[list[int], list[int], list[int]]:
    """Width multiple and residual blocks of each level, and transformer depth of each residual block."""
    mults: list[int] = []
    blocks: list[int] = []
    depths: list[int] = []
    in_level = 0
    for i in range(1, unet.count("input_blocks.")):
        if f"input_blocks.{i}.0.op.weight" in unet.shapes:
            blocks.append(in_level)
            in_level = 0
            continue
        width = unet.size(f"input_blocks.{i}.0.out_layers.3.weight", 0)
        if width % channels:
            raise CorruptFile(
                f"A level of the UNet is {width} wide, no multiple of {channels}.", advice="This model cannot be used."
            )
        if in_level == 0:
            mults.append(width // channels)
        in_level += 1
        depths.append(unet.count(f"input_blocks.{i}.1.transformer_blocks."))
    blocks.append(in_level)
    if len(mults) != len(blocks):
        raise CorruptFile("The UNet's levels are incomplete.", advice="The file is damaged.")
    return mults, blocks, depths


def _attention_widths(unet: Part) -> set[int]:
    return {unet.size(name, 0) for name in unet.shapes if name.endswith("attn1.to_q.weight")}


def text_config(
    text: Part,
    layout: Literal["hf", "open_clip"],
    *,
    heads: int | None = None,
    activation: Literal["quick_gelu", "gelu"] | None = None,
) -> TextConfig:
    """A text encoder's configuration from its tensors.

    Args:
        text: names below the encoder's prefix, beginning with `text_model.` (hf) or `transformer.` (open_clip).
        layout: which of the two.
        heads, activation: what shapes do not tell; by default heads are 64 wide, and the activation is CLIP's or OpenCLIP's.

    Raises:
        CorruptFile: tensors are missing.
    """
    if layout == "hf":
        table, positions = "text_model.embeddings.token_embedding.weight", "text_model.embeddings.position_embedding.weight"
        layers, fc = "text_model.encoder.layers.", "text_model.encoder.layers.0.mlp.fc1.weight"
        projection = text.shapes.get("text_projection.weight")
        projection_dim = projection[0] if projection else None
    else:
        table, positions = "token_embedding.weight", "positional_embedding"
        layers, fc = "transformer.resblocks.", "transformer.resblocks.0.mlp.c_fc.weight"
        projection = text.shapes.get("text_projection")
        projection_dim = projection[1] if projection and len(projection) == 2 else None
    width = text.size(table, 1)
    return TextConfig(
        layout=layout,
        vocab_size=text.size(table, 0),
        width=width,
        layers=text.count(layers),
        heads=heads or max(1, width // 64),
        mlp_width=text.size(fc, 0),
        max_positions=text.size(positions, 0),
        activation=activation or ("quick_gelu" if layout == "hf" else "gelu"),
        projection_dim=projection_dim,
        eos_padding=layout == "hf",
    )


def vae_config(vae: Part, *, scale_factor: float, groups: int | None = None) -> VAEConfig:
    """The autoencoder's configuration from its tensors.

    Args:
        vae: names as below `first_stage_model.`.
        scale_factor: of the family; shapes do not tell it.
        groups: of every GroupNorm; by default 32, halved until it divides the width.

    Raises:
        CorruptFile: tensors are missing.
    """
    ch = vae.size("encoder.conv_in.weight", 0)
    levels = vae.count("encoder.down.")
    return VAEConfig(
        in_channels=vae.size("encoder.conv_in.weight", 1),
        out_channels=vae.size("decoder.conv_out.weight", 0),
        ch=ch,
        ch_mult=tuple(vae.size(f"encoder.down.{i}.block.0.conv1.weight", 0) // ch for i in range(levels)),
        num_res_blocks=vae.count("encoder.down.0.block."),
        z_channels=vae.size("decoder.conv_in.weight", 1),
        embed_dim=vae.size("post_quant_conv.weight", 1),
        norm_num_groups=groups or groups_for(ch),
        scale_factor=scale_factor,
    )
