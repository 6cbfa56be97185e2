"""Shapes of the networks as frozen values: everything that must be known to build a module before its weights are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PredictionKind = Literal["eps", "v", "flow"]
"""What the denoising network predicts: the noise, the velocity, or the flow."""


@dataclass(frozen=True, slots=True)
class UNetConfig:
    """The latent-diffusion UNet (Rombach et al. 2022) in any width.

    Attributes:
        model_channels: width of the first level; every level's is a multiple of it.
        channel_mult: width multiple of each level, outermost first.
        num_res_blocks: residual blocks of each level of the encoder (the decoder has one more).
        transformer_depth: transformer blocks behind each residual block of the encoder, in order; 0 for none.
        transformer_depth_middle: transformer blocks in the middle; 0 where the middle is a single residual block (SSD-1B, Vega),
            -1 where there is no middle at all (KOALA-700M).
        transformer_depth_output: the same for the decoder's residual blocks, in order of the decoder.
        context_dim: width of the text encoder's hidden states.
        num_heads: attention heads of every transformer (SD1: 8), or None where `head_dim` decides.
        head_dim: width of one head (SD2, SDXL: 64), or None where `num_heads` decides.
        use_linear_projection: `proj_in`/`proj_out` are linear (SD2, SDXL) rather than 1x1 convolutions (SD1).
        adm_in_channels: width of the vector condition (SDXL 2816, refiner 2560, unCLIP 1536/2048), or None.
        norm_num_groups: groups of every GroupNorm; the file's shapes do not tell (SD: 32).
    """

    in_channels: int = 4
    out_channels: int = 4
    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: tuple[int, ...] = (2, 2, 2, 2)
    transformer_depth: tuple[int, ...] = (1, 1, 1, 1, 1, 1, 0, 0)
    transformer_depth_middle: int = 1
    transformer_depth_output: tuple[int, ...] = (0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1)
    context_dim: int = 768
    num_heads: int | None = 8
    head_dim: int | None = None
    use_linear_projection: bool = False
    adm_in_channels: int | None = None
    norm_num_groups: int = 32


@dataclass(frozen=True, slots=True)
class TextConfig:
    """A CLIP text encoder.

    Attributes:
        layout: "hf" for the module names of Hugging Face (`text_model.encoder.layers...`), "open_clip" for OpenCLIP's.
        activation: of the feed-forward part; CLIP-L uses "quick_gelu", OpenCLIP H and bigG "gelu".
        projection_dim: width of the pooled projection, or None where the file has none.
        eos_padding: True where prompts are padded with the end token (SD1), False where with 0 (OpenCLIP).
    """

    layout: Literal["hf", "open_clip"] = "hf"
    vocab_size: int = 49408
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp_width: int = 3072
    max_positions: int = 77
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    projection_dim: int | None = None
    eos_padding: bool = True


@dataclass(frozen=True, slots=True)
class VAEConfig:
    """The KL autoencoder.

    Attributes:
        ch_mult: width multiple of each level, outermost first; the latent is 2 ** (len - 1) times smaller per side.
        embed_dim: channels of the latent.
        scale_factor: latents are multiplied by it after encoding (SD1/2 0.18215, SDXL 0.13025).
    """

    in_channels: int = 3
    out_channels: int = 3
    ch: int = 128
    ch_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    z_channels: int = 4
    embed_dim: int = 4
    norm_num_groups: int = 32
    scale_factor: float = 0.18215

    @property
    def downsampling(self) -> int:
        """Pixels per latent cell and side."""
        return int(2 ** (len(self.ch_mult) - 1))


@dataclass(frozen=True, slots=True)
class TextEncoderSpec:
    """One text encoder of a model and how the family uses it.

    Attributes:
        prefix: where its tensors live in a single file, with the dot at the end.
        skip: hidden states counted from the last that are used when the user asks for no clip skip (1 = last, 2 = penultimate).
        final_norm: the final LayerNorm is applied to the chosen hidden states (SD1, SD2: yes; SDXL: no).
        pooled: this encoder gives the pooled vector of the family's vector condition.
        skippable: clip skip applies to it (A1111: SD1 only by default).
    """

    config: TextConfig
    prefix: str
    skip: int = 1
    final_norm: bool = True
    pooled: bool = False
    skippable: bool = True


Variant = Literal["base", "inpaint", "pix2pix", "depth", "unclip"]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """All that must be known of a checkpoint besides its tensors.

    Attributes:
        family: "sd1", "sd2", "sdxl", "sdxl-refiner", ... : a row of `checkpoint.family.families`.
        variant: what the UNet's extra input channels or vector condition are for.
        prediction: what the UNet predicts.
        zero_terminal_snr: the noise schedule is rescaled so that the last step is pure noise (Lin et al. 2023).
        linear_start, linear_end, timesteps: the scaled-linear schedule.
        size: the side in pixels that the model was trained at.
        adm: how the vector condition is composed: "sdxl" (pooled + 6 sizes), "refiner" (pooled + 4 sizes + score), "unclip",
            or None.
        title: name to show.
    """

    family: str
    unet: UNetConfig
    vae: VAEConfig
    text: tuple[TextEncoderSpec, ...]
    variant: Variant = "base"
    prediction: PredictionKind = "eps"
    zero_terminal_snr: bool = False
    linear_start: float = 0.00085
    linear_end: float = 0.012
    timesteps: int = 1000
    size: int = 512
    adm: Literal["sdxl", "refiner", "unclip"] | None = None
    title: str = ""
