"""Model families and how to tell them apart. The only place that knows families: everything else reads a `ModelSpec`.

Nothing here looks at a file's name. Names and shapes of tensors decide the family and every width; what they do not tell comes
from `Hints`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sfumato.engine.checkpoint.hints import Hints, hints_from_markers
from sfumato.engine.checkpoint.shapes import Part, Shapes, text_config, unet_config, vae_config
from sfumato.engine.checkpoint.table import LazyTensor
from sfumato.engine.models.config import ModelSpec, PredictionKind, TextEncoderSpec, UNetConfig, VAEConfig, Variant
from sfumato.errors import CorruptFile, Unsupported
from sfumato.registry import Registry

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP_PREFIX = "cond_stage_model.transformer."
OPEN_CLIP_PREFIX = "cond_stage_model.model."


@dataclass(frozen=True, slots=True)
class Encoder:
    """How a family uses one of its text encoders; the fields are those of `TextEncoderSpec`."""

    prefix: str
    layout: Literal["hf", "open_clip"]
    skip: int = 1
    final_norm: bool = True
    pooled: bool = False
    skippable: bool = True


@dataclass(frozen=True, slots=True)
class Family:
    """One row: everything that models of a family share and their shapes do not say.

    Attributes:
        title: name to show.
        encoders: the text encoders, in the order in which their features are joined.
        scale_factor: of the latents.
        size: side in pixels that it was trained at; `size_v` where the v-prediction models differ.
        adm: how the vector condition is composed.
        context_dim: width of the standard text features, to recognise a UNet that comes without its text encoder.
    """

    title: str
    encoders: tuple[Encoder, ...]
    scale_factor: float = 0.18215
    size: int = 512
    size_v: int = 512
    adm: Literal["sdxl", "refiner"] | None = None
    context_dim: int = 768


families: Registry[Family] = Registry("model family")
families.add("sd1", Family("Stable Diffusion 1", (Encoder(CLIP_PREFIX, "hf"),)))
families.add(
    "sd2",
    Family(
        "Stable Diffusion 2", (Encoder(OPEN_CLIP_PREFIX, "open_clip", skip=2, skippable=False),), size_v=768, context_dim=1024
    ),
)
families.add(
    "sdxl",
    Family(
        "Stable Diffusion XL",
        (
            Encoder("conditioner.embedders.0.transformer.", "hf", skip=2, final_norm=False, skippable=False),
            Encoder("conditioner.embedders.1.model.", "open_clip", skip=2, final_norm=False, pooled=True, skippable=False),
        ),
        scale_factor=0.13025,
        size=1024,
        size_v=1024,
        adm="sdxl",
        context_dim=2048,
    ),
)
families.add(
    "sdxl-refiner",
    Family(
        "Stable Diffusion XL refiner",
        (Encoder("conditioner.embedders.0.model.", "open_clip", skip=2, final_norm=False, pooled=True, skippable=False),),
        scale_factor=0.13025,
        size=1024,
        size_v=1024,
        adm="refiner",
        context_dim=1280,
    ),
)

STRANGERS: tuple[tuple[str, str], ...] = (
    ("joint_blocks.", "Stable Diffusion 3"),
    ("double_blocks.", "Flux or another model with double-stream blocks"),
    ("double_layers.", "AuraFlow"),
    ("clip_txt_mapper.", "Stable Cascade"),
    ("clip_mapper.", "Stable Cascade"),
    ("mlp_t5.", "Hunyuan-DiT"),
    ("cap_embedder.", "Lumina"),
    ("adaln_single.", "PixArt"),
    ("patch_embedding.", "Wan or another video model"),
    ("transformer_blocks.", "a transformer, not a UNet"),
    ("cond_stage_model.roberta.", "Alt-Diffusion"),
    ("text_encoders.t5", "a model with a T5 text encoder"),
    ("edm_mean", "Playground 2.5 (EDM)"),
    ("edm_vpred.sigma_max", "CosXL (EDM v-prediction)"),
)
"""Beginnings of tensor names, whole or below the UNet's prefix, that show a model of another kind."""
INNER_STRANGERS: tuple[tuple[str, str], ...] = ((".time_stack.", "Stable Video Diffusion"), (".motion_modules.", "AnimateDiff"))
"""Parts of tensor names that do."""


def detect(table: Shapes, hints: Hints = Hints()) -> ModelSpec:  # noqa: B008 - frozen
    """The full specification of a model in native names.

    Args:
        table: names as in single files, and shapes. Where tensors can be read (`LazyTensor`), one small tensor decides between
            the two kinds of SD2.
        hints: what is known beyond shapes, strongest source first; marker tensors are looked at here.

    Raises:
        Unsupported: a model of another kind, named.
        CorruptFile: the UNet, a text encoder or the autoencoder is missing or incomplete.
    """
    refuse_strangers(table)
    hints = hints.over(hints_from_markers(table))
    name = family_of(table)
    row = families[name]
    unet = unet_config(
        Part.below(table, UNET, "UNet"), groups=hints.norm_num_groups, heads=hints.num_heads, head_dim=hints.head_dim
    )
    vae = vae_of(table, hints, row.scale_factor)
    if vae.embed_dim != unet.out_channels:
        raise CorruptFile(
            f"The UNet works on latents of {unet.out_channels} channels and the autoencoder (VAE) on {vae.embed_dim}.",
            advice="The autoencoder belongs to another model.",
        )
    variant = _variant(table, unet)
    prediction = hints.prediction or _usual_prediction(table, name, unet, variant)
    adm: Literal["sdxl", "refiner", "unclip"] | None = "unclip" if variant == "unclip" else row.adm
    return ModelSpec(
        family=name,
        unet=unet,
        vae=vae,
        text=_encoders(table, row, hints, unet.context_dim),
        variant=variant,
        prediction=prediction,
        zero_terminal_snr=bool(hints.zero_terminal_snr),
        linear_start=hints.linear_start or 0.00085,
        linear_end=hints.linear_end or 0.012,
        timesteps=hints.timesteps or 1000,
        size=hints.size or (row.size_v if prediction == "v" else row.size),
        adm=adm,
        title=_title(row, unet, variant),
    )


def family_of(table: Shapes) -> str:
    """The name of the family's row, by the text encoders that are there, or by the UNet's context where there are none.

    Raises:
        CorruptFile: neither says anything.
    """
    if _has(table, "conditioner.embedders.1.model."):
        return "sdxl"
    if _has(table, "conditioner.embedders.0.model."):
        return "sdxl-refiner"
    if _has(table, OPEN_CLIP_PREFIX):
        return "sd2"
    if _has(table, CLIP_PREFIX):
        return "sd1"
    keys = (tuple(table[name].shape) for name in table if name.startswith(UNET) and name.endswith("attn2.to_k.weight"))
    width = next((shape[1] for shape in keys if len(shape) == 2), None)
    found = next((name for name, row in families.items() if row.context_dim == width), None)
    if found is None:
        raise CorruptFile(
            "The file has no text encoder and no UNet of a known kind.", advice="It is not a Stable Diffusion model."
        )
    return found


def refuse_strangers(table: Shapes) -> None:
    """Raise Unsupported, naming it, for a model of a kind that is not Stable Diffusion."""
    for name in table:
        if name == UNET + "x_embedder.proj.weight":
            raise Unsupported("This is Stable Diffusion 3.", advice="Supported are Stable Diffusion 1, 2 and XL.")
        inner = name.removeprefix(UNET)
        for start, stranger in STRANGERS:
            if inner.startswith(start) and (start != "transformer_blocks." or inner != name):
                raise Unsupported(f"This is {stranger}.", advice="Supported are Stable Diffusion 1, 2 and XL.")
        for part, stranger in INNER_STRANGERS:
            if part in name:
                raise Unsupported(f"This is {stranger}.", advice="Supported are Stable Diffusion 1, 2 and XL.")


def vae_of(table: Shapes, hints: Hints, scale_factor: float) -> VAEConfig:
    """Configuration of the autoencoder of a whole checkpoint; CorruptFile with advice where it has none."""
    part = Part.below(table, VAE, "autoencoder (VAE)")
    if not part.shapes:
        raise CorruptFile(
            "The file has no autoencoder (VAE).",
            advice="Give one in a file of its own with the option 'vae', or use a full checkpoint.",
        )
    return vae_config(part, scale_factor=hints.scale_factor or scale_factor, groups=hints.vae_norm_num_groups)


def _encoders(table: Shapes, row: Family, hints: Hints, context_dim: int) -> tuple[TextEncoderSpec, ...]:
    specs = []
    for i, encoder in enumerate(row.encoders):
        part = Part.below(table, encoder.prefix, "text encoder")
        if not part.shapes:
            raise CorruptFile(
                f"The file has no text encoder below {encoder.prefix!r}.",
                advice="Give a full checkpoint that has it with the option 'text', or use the full checkpoint.",
            )
        heads = hints.text_heads[i] if hints.text_heads and i < len(hints.text_heads) else None
        config = text_config(
            part, encoder.layout, heads=heads, activation=hints.text_activation if encoder.layout == "hf" else None
        )
        specs.append(
            TextEncoderSpec(
                config=config,
                prefix=encoder.prefix,
                skip=_skip(encoder, config.width, config.layers, hints, i),
                final_norm=encoder.final_norm,
                pooled=encoder.pooled,
                skippable=encoder.skippable,
            )
        )
    joined = sum(spec.config.width for spec in specs)
    if joined != context_dim:
        raise CorruptFile(
            f"The UNet expects text features of width {context_dim} and the text encoders give {joined}.",
            advice="The text encoder belongs to another model.",
        )
    return tuple(specs)


def _skip(encoder: Encoder, width: int, layers: int, hints: Hints, index: int) -> int:
    """Which hidden states; OpenCLIP H saved without its unused last layer ends where the model reads."""
    cut = encoder.prefix == OPEN_CLIP_PREFIX and width == 1024 and layers == 23
    skip = hints.text_skip[index] if hints.text_skip and index < len(hints.text_skip) else 1 if cut else encoder.skip
    if skip > layers:
        raise CorruptFile(
            f"A text encoder is to be read {skip} layers from its end and has {layers}.",
            advice="The file is damaged, or its metadata belongs to another model.",
        )
    return skip


def _variant(table: Shapes, unet: UNetConfig) -> Variant:
    kinds: Mapping[int, Variant] = {9: "inpaint", 8: "pix2pix", 5: "depth"}
    if unet.in_channels in kinds:
        return kinds[unet.in_channels]
    if _has(table, "embedder.model.") or _has(table, "noise_augmentor."):
        return "unclip"
    if unet.in_channels != 4:
        raise Unsupported(
            f"The UNet takes {unet.in_channels} channels.", advice="Known are 4, 5 (depth), 8 (pix2pix) and 9 (inpaint)."
        )
    if unet.adm_in_channels in (1536, 2048) and unet.context_dim == 1024:
        return "unclip"
    return "base"


def _usual_prediction(table: Shapes, family: str, unet: UNetConfig, variant: Variant) -> PredictionKind:
    """What to expect where nothing says it: eps, but SD2 comes in both kinds, which differ in the spread of one small bias."""
    if variant == "unclip":
        return "v"
    bias = table.get(UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias")
    if family == "sd2" and variant == "base" and isinstance(bias, LazyTensor):
        return "v" if float(bias.read().float().std()) > 0.09 else "eps"
    return "eps"


def _title(row: Family, unet: UNetConfig, variant: Variant) -> str:
    title = "SSD-1B" if row.adm == "sdxl" and unet.transformer_depth_middle < 1 else row.title
    return title if variant == "base" else f"{title} {variant}"


def _has(table: Shapes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in table)
