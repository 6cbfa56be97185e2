"""A model as a folder that diffusers can load offline: weights, configurations, scheduler, tokenizers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from sfumato.engine.checkpoint.export_tokenizer import write_tokenizer
from sfumato.engine.checkpoint.family import UNET, VAE
from sfumato.engine.checkpoint.keys import rename, text_from_open_clip, unet_modules_of, vae_modules
from sfumato.engine.checkpoint.table import LazyTensor, TensorTable
from sfumato.engine.checkpoint.writer import write_safetensors, write_text
from sfumato.engine.models.config import ModelSpec, TextEncoderSpec, UNetConfig, VAEConfig
from sfumato.errors import CorruptFile, NotFound, Unsupported

Json = dict[str, object]
VERSION = "0.27.0"
"""The version of diffusers whose configuration files these are; later ones read them."""
WEIGHTS = "diffusion_pytorch_model.safetensors"
PIPELINES: Mapping[tuple[str, str], str] = {
    ("", "base"): "StableDiffusionPipeline",
    ("", "inpaint"): "StableDiffusionInpaintPipeline",
    ("", "pix2pix"): "StableDiffusionInstructPix2PixPipeline",
    ("sdxl", "base"): "StableDiffusionXLPipeline",
    ("sdxl", "inpaint"): "StableDiffusionXLInpaintPipeline",
    ("sdxl", "pix2pix"): "StableDiffusionXLInstructPix2PixPipeline",
    ("refiner", "base"): "StableDiffusionXLImg2ImgPipeline",
}


def export_folder(table: TensorTable, spec: ModelSpec, folder: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a model in the layout of diffusers.

    Args:
        table: the tensors under native names; each is read when it is written.
        spec: what they are.
        folder: made if need be; `model_index.json` is written last, so that a folder that has it is whole.
        dtype: of the saved weights; None keeps theirs.

    Raises:
        Unsupported: diffusers has no pipeline or configuration for the model.
        DiskFull, NotFound: as `write_safetensors` says.
        CorruptFile: tensors are missing.
    """
    pipeline = PIPELINES.get((spec.adm or "", spec.variant))
    if pipeline is None:
        raise Unsupported(f"{spec.title} cannot be written as a diffusers folder.", advice="Save it as a single file.")
    configs = {"unet": unet_json(spec), "vae": vae_json(spec.vae, xl=spec.adm is not None)}
    encoders = _encoder_folders(spec)
    for name in ("unet", "vae", "scheduler", *encoders, *(name.replace("text_encoder", "tokenizer") for name in encoders)):
        _make(folder / name)
    for name, config in configs.items():
        write_text(folder / name / "config.json", json.dumps(config, indent=2))
    write_text(folder / "scheduler" / "scheduler_config.json", json.dumps(scheduler_json(spec), indent=2))
    write_safetensors(folder / "unet" / WEIGHTS, _unet(table, spec), dtype=dtype)
    write_safetensors(folder / "vae" / WEIGHTS, _vae(table, spec.vae), dtype=dtype)
    for name, encoder in encoders.items():
        layers = _saved_layers(encoder, spec)
        write_text(folder / name / "config.json", json.dumps(text_json(encoder, layers), indent=2))
        write_safetensors(
            folder / name / "model.safetensors", _text(table, encoder, layers), dtype=dtype, metadata={"format": "pt"}
        )
        pad = "<|endoftext|>" if encoder.config.eos_padding else "!"
        write_tokenizer(folder / name.replace("text_encoder", "tokenizer"), pad=pad, length=encoder.config.max_positions)
    write_text(folder / "model_index.json", json.dumps(_index(pipeline, spec, encoders), indent=2))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotFound(f"{folder} cannot be made: {error.strerror}.", advice="Check the folder and its permissions.") from error


def _encoder_folders(spec: ModelSpec) -> dict[str, TextEncoderSpec]:
    if spec.adm == "refiner":
        return {"text_encoder_2": spec.text[0]}
    return dict(zip(("text_encoder", "text_encoder_2"), spec.text, strict=False))


def _saved_layers(encoder: TextEncoderSpec, spec: ModelSpec) -> int:
    """Diffusers always reads the last layer of a lone text encoder, so layers behind the one that is read are left out."""
    return encoder.config.layers if spec.adm else encoder.config.layers - encoder.skip + 1


# --- tensors ----------------------------------------------------------------------------------------------------------


def _unet(table: TensorTable, spec: ModelSpec) -> dict[str, LazyTensor]:
    modules = unet_modules_of(spec.unet)
    return _mapped(table.below(UNET), modules, "UNet")


def _vae(table: TensorTable, config: VAEConfig) -> dict[str, LazyTensor]:
    tensors = _mapped(table.below(VAE), vae_modules(len(config.ch_mult), config.num_res_blocks), "VAE")
    # Diffusers' attention is linear where the file has 1x1 convolutions.
    flat = {name for name, tensor in tensors.items() if ".attentions." in name and len(tensor.shape) == 4}
    return {name: tensor.reshaped(tensor.shape[:2]) if name in flat else tensor for name, tensor in tensors.items()}


def _mapped(tensors: Mapping[str, LazyTensor], modules: Mapping[str, str], what: str) -> dict[str, LazyTensor]:
    result = {new: tensor for name, tensor in tensors.items() if (new := rename(name, modules)) is not None}
    if len(result) < len(tensors):
        strange = next(name for name in tensors if rename(name, modules) is None)
        raise Unsupported(f"The {what}'s tensor {strange!r} has no place in the diffusers layout.", advice="Save a single file.")
    return result


def _text(table: TensorTable, encoder: TextEncoderSpec, layers: int) -> dict[str, LazyTensor]:
    tensors = table.below(encoder.prefix)
    if not tensors:
        raise CorruptFile(f"There is no text encoder below {encoder.prefix!r}.", advice="The file is incomplete.")
    if encoder.config.layout == "open_clip":
        tensors = text_from_open_clip(tensors, layers=layers)
        if not encoder.pooled:
            tensors.pop("text_projection.weight", None)
    return {name: tensor for name, tensor in tensors.items() if name.startswith(("text_model.", "text_projection."))}


# --- configurations ---------------------------------------------------------------------------------------------------


def _levels(config: UNetConfig) -> tuple[list[list[int]], list[list[int]]]:
    """Transformer depths of each level: of the encoder, and of the decoder from its first level (the innermost) on."""
    down, up, i, j = [], [], 0, 0
    for blocks in config.num_res_blocks:
        down.append(list(config.transformer_depth[i : i + blocks]))
        i += blocks
    for blocks in reversed(config.num_res_blocks):
        up.append(list(config.transformer_depth_output[j : j + blocks + 1]))
        j += blocks + 1
    return down, up


def unet_json(spec: ModelSpec) -> Json:
    """The `config.json` of diffusers' UNet2DConditionModel; Unsupported where it cannot express the shapes."""
    config = spec.unet
    down, up = _levels(config)
    if any(min(level) == 0 < max(level) for level in (*down, *up)):
        raise Unsupported("A level of the UNet has transformers behind some blocks only.", advice="Save it as a single file.")
    widths = [config.model_channels * mult for mult in config.channel_mult]
    heads: object = config.num_heads or [width // (config.head_dim or width) for width in widths]
    result: Json = {
        "_class_name": "UNet2DConditionModel",
        "_diffusers_version": VERSION,
        "act_fn": "silu",
        "attention_head_dim": heads,
        "block_out_channels": widths,
        "center_input_sample": False,
        "cross_attention_dim": config.context_dim,
        "down_block_types": ["CrossAttnDownBlock2D" if level[0] else "DownBlock2D" for level in down],
        "downsample_padding": 1,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "in_channels": config.in_channels,
        "layers_per_block": config.num_res_blocks[0] if len(set(config.num_res_blocks)) == 1 else list(config.num_res_blocks),
        "mid_block_scale_factor": 1,
        "mid_block_type": _mid_type(config),
        "norm_eps": 1e-5,
        "norm_num_groups": config.norm_num_groups,
        "out_channels": config.out_channels,
        "sample_size": spec.size // spec.vae.downsampling,
        "up_block_types": ["CrossAttnUpBlock2D" if level[0] else "UpBlock2D" for level in up],
        "use_linear_projection": config.use_linear_projection,
    }
    result |= _depths(down, up, config.transformer_depth_middle)
    if spec.adm in ("sdxl", "refiner"):
        result |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": config.adm_in_channels,
        }
    return result


def _mid_type(config: UNetConfig) -> str | None:
    if config.transformer_depth_middle < 0:
        return None
    return "UNetMidBlock2DCrossAttn" if config.transformer_depth_middle else "UNetMidBlock2D"


def _depths(down: list[list[int]], up: list[list[int]], middle: int) -> Json:
    """Depths as one number per level where both halves allow it, else one per block. The middle has the last level's."""
    whole = [level[0] for level in down]
    if not whole[-1]:
        whole[-1] = max(middle, 1)
    symmetric = all(len(set(a)) == 1 and set(a) == set(b) for a, b in zip(down, reversed(up), strict=True))
    if middle > 0 and whole[-1] != middle:
        raise Unsupported("The UNet's middle is deeper than its last level.", advice="Save it as a single file.")
    if symmetric:
        return {"transformer_layers_per_block": [depth or 1 for depth in whole]}
    return {
        "transformer_layers_per_block": [level if level[0] else [1] * len(level) for level in down],
        "reverse_transformer_layers_per_block": [level if level[0] else [1] * len(level) for level in up],
    }


def vae_json(config: VAEConfig, *, xl: bool = False) -> Json:
    """The `config.json` of diffusers' AutoencoderKL; Unsupported where it cannot express the shapes."""
    if config.z_channels != config.embed_dim:
        raise Unsupported("The autoencoder's z_channels and embed_dim differ.", advice="Save it as a single file.")
    levels = len(config.ch_mult)
    return {
        "_class_name": "AutoencoderKL",
        "_diffusers_version": VERSION,
        "act_fn": "silu",
        "block_out_channels": [config.ch * mult for mult in config.ch_mult],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "force_upcast": xl,
        "in_channels": config.in_channels,
        "latent_channels": config.embed_dim,
        "layers_per_block": config.num_res_blocks,
        "norm_num_groups": config.norm_num_groups,
        "out_channels": config.out_channels,
        "sample_size": 1024 if xl else 512,
        "scaling_factor": config.scale_factor,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }


def text_json(encoder: TextEncoderSpec, layers: int) -> Json:
    """The `config.json` of transformers' CLIPTextModel, or CLIPTextModelWithProjection where the pooled vector is used."""
    config = encoder.config
    return {
        "architectures": ["CLIPTextModelWithProjection" if encoder.pooled else "CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        "eos_token_id": 2,  # as in the published models: the pooled vector is then that of the highest token id
        "hidden_act": config.activation,
        "hidden_size": config.width,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": config.mlp_width,
        "layer_norm_eps": 1e-5,
        "max_position_embeddings": config.max_positions,
        "model_type": "clip_text_model",
        "num_attention_heads": config.heads,
        "num_hidden_layers": layers,
        "pad_token_id": 1,
        "projection_dim": config.projection_dim or config.width,
        "vocab_size": config.vocab_size,
    }


def scheduler_json(spec: ModelSpec) -> Json:
    """The `scheduler_config.json` that samples the model."""
    kinds = {"eps": "epsilon", "v": "v_prediction"}
    if spec.prediction not in kinds:
        raise Unsupported(
            f"Diffusers' pipeline has no scheduler for {spec.prediction!r} here.", advice="Save it as a single file."
        )
    common: Json = {
        "_class_name": "EulerDiscreteScheduler" if spec.adm else "DDIMScheduler",
        "_diffusers_version": VERSION,
        "beta_end": spec.linear_end,
        "beta_schedule": "scaled_linear",
        "beta_start": spec.linear_start,
        "num_train_timesteps": spec.timesteps,
        "prediction_type": kinds[spec.prediction],
        "rescale_betas_zero_snr": spec.zero_terminal_snr,
        "steps_offset": 1,
        "timestep_spacing": "leading",
    }
    return common if spec.adm else common | {"clip_sample": False, "set_alpha_to_one": False}


def _index(pipeline: str, spec: ModelSpec, encoders: Mapping[str, TextEncoderSpec]) -> Json:
    parts: Json = {
        "scheduler": ["diffusers", scheduler_json(spec)["_class_name"]],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    for name in ("text_encoder", "text_encoder_2") if spec.adm else ("text_encoder",):
        encoder = encoders.get(name)
        kind = "CLIPTextModelWithProjection" if encoder and encoder.pooled else "CLIPTextModel"
        parts[name] = ["transformers", kind] if encoder else [None, None]
        parts[name.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"] if encoder else [None, None]
    if spec.adm:
        parts["force_zeros_for_empty_prompt"] = spec.adm == "sdxl"
        if spec.adm == "refiner":
            parts["requires_aesthetics_score"] = True
    else:
        parts |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    return {"_class_name": pipeline, "_diffusers_version": VERSION, **parts}
