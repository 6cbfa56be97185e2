"""What shapes do not tell of a model, and where it can be learnt: metadata, a yaml beside the file, marker tensors."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import yaml

from sfumato.engine.models.config import PredictionKind
from sfumato.errors import UnsafeFile, Unsupported

MAX_YAML = 256 << 10
MAX_YAML_EVENTS = 20_000
PREDICTIONS: tuple[tuple[str, PredictionKind], ...] = (
    ("epsilon", "eps"),
    ("eps", "eps"),
    ("v", "v"),
    ("v_prediction", "v"),
    ("flow", "flow"),
    ("flow_prediction", "flow"),
)


@dataclass(frozen=True, slots=True)
class Hints:
    """Facts about a model, each None where it is not known.

    Attributes:
        prediction: what the UNet predicts.
        zero_terminal_snr: the schedule ends in pure noise.
        norm_num_groups, vae_norm_num_groups: groups of the UNet's and the autoencoder's GroupNorms.
        num_heads, head_dim: of the UNet's attention; one of the two.
        text_heads, text_skip: of each text encoder, in order.
        text_activation: of the feed-forward part of the first text encoder in Hugging Face's layout.
        linear_start, linear_end, timesteps: the noise schedule.
        scale_factor: of the latents.
        size: side in pixels that the model was trained at.
        use_ema: the averaged weights are the ones to use.
    """

    prediction: PredictionKind | None = None
    zero_terminal_snr: bool | None = None
    norm_num_groups: int | None = None
    vae_norm_num_groups: int | None = None
    num_heads: int | None = None
    head_dim: int | None = None
    text_heads: tuple[int, ...] | None = None
    text_skip: tuple[int, ...] | None = None
    text_activation: Literal["quick_gelu", "gelu"] | None = None
    linear_start: float | None = None
    linear_end: float | None = None
    timesteps: int | None = None
    scale_factor: float | None = None
    size: int | None = None
    use_ema: bool | None = None

    def over(self, other: Hints) -> Hints:
        """These facts, and where they are silent those of `other`."""
        known = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}
        if known.keys() & {"num_heads", "head_dim"}:
            other = replace(other, num_heads=None, head_dim=None)
        return replace(other, **known)


def _prediction(text: object) -> PredictionKind | None:
    return next((kind for name, kind in PREDICTIONS if text == name), None)


def _whole(value: object, largest: int = 100_000) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= largest else None


def _positive(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e6 else None


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _wholes(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list) or not 0 < len(value) <= 4:
        return None
    numbers = [_whole(item) for item in value]
    return tuple(number for number in numbers if number is not None) if None not in numbers else None


def hints_from_metadata(metadata: Mapping[str, str]) -> Hints:
    """Facts in a safetensors header: modelspec's and our own `sfumato.*` and `norm_num_groups`; anything malformed is no fact."""

    def ours(name: str) -> object:
        text = metadata.get(f"sfumato.{name}", "")
        try:
            return json.loads(text) if 0 < len(text) < 100 else None
        except ValueError:
            return None

    architecture = metadata.get("modelspec.architecture", "")
    groups = metadata.get("norm_num_groups", "")
    side = metadata.get("modelspec.resolution", "").partition("x")[0]
    activation = ours("text_activation")
    return Hints(
        prediction=_prediction(metadata.get("modelspec.prediction_type")) or ("v" if architecture.endswith("-v") else None),
        zero_terminal_snr=_truth(ours("zero_terminal_snr")),
        norm_num_groups=_whole(int(groups)) if groups.isdecimal() and len(groups) < 6 else None,
        vae_norm_num_groups=_whole(ours("vae_norm_num_groups")),
        num_heads=_whole(ours("num_heads")),
        head_dim=_whole(ours("head_dim")),
        text_heads=_wholes(ours("text_heads")),
        text_skip=_wholes(ours("text_skip")),
        text_activation="gelu" if activation == "gelu" else "quick_gelu" if activation == "quick_gelu" else None,
        linear_start=_positive(ours("linear_start")),
        linear_end=_positive(ours("linear_end")),
        timesteps=_whole(ours("timesteps")),
        scale_factor=_positive(ours("scale_factor")),
        size=_whole(int(side)) if side.isdecimal() and len(side) < 6 else None,
    )


def hints_from_markers(names: Container[str]) -> Hints:
    """Facts told by the presence of empty marker tensors."""
    return Hints(prediction="v" if "v_pred" in names else None, zero_terminal_snr=True if "ztsnr" in names else None)


def hints_from_scheduler(config: Mapping[str, object]) -> Hints:
    """Facts in the `scheduler_config.json` of a diffusers folder.

    Raises:
        Unsupported: a noise schedule that is not scaled-linear.
    """
    schedule = config.get("beta_schedule", "scaled_linear")
    if schedule != "scaled_linear":
        raise Unsupported(
            f"The model's noise schedule is {schedule!r}.", advice="Only 'scaled_linear', that of Stable Diffusion, is known."
        )
    return Hints(
        prediction=_prediction(config.get("prediction_type")),
        zero_terminal_snr=_truth(config.get("rescale_betas_zero_snr")),
        linear_start=_positive(config.get("beta_start")),
        linear_end=_positive(config.get("beta_end")),
        timesteps=_whole(config.get("num_train_timesteps")),
    )


def hints_beside(path: Path) -> Hints:
    """Facts in the yaml of the same name beside a checkpoint; none where there is no such file.

    Raises:
        UnsafeFile: it is larger than 256 KiB, uses aliases or is absurdly deep or long.
        Unsupported: it is not yaml.
    """
    beside = path.with_suffix(".yaml")
    if path.is_dir() or not beside.is_file():
        return Hints()
    return hints_from_yaml(_safe_yaml(beside))


def hints_from_yaml(document: object) -> Hints:
    """Facts in an LDM or SGM configuration; unknown parts are ignored."""

    def at(node: object, *path: str) -> object:
        for key in path:
            node = node.get(key) if isinstance(node, dict) else None
        return node

    params = at(document, "model", "params")
    unet = at(params, "unet_config", "params") or at(params, "network_config", "params")
    scaling = at(params, "denoiser_config", "params", "scaling_config", "target")
    scaled = _prediction(at(params, "parameterization"))
    if scaled is None and isinstance(scaling, str):
        scaled = "v" if scaling.endswith("VScaling") else "eps" if scaling.endswith("EpsScaling") else None
    heads, head_dim = at(unet, "num_heads"), at(unet, "num_head_channels")
    return Hints(
        prediction=scaled,
        zero_terminal_snr=_truth(at(params, "zero_terminal_snr")),
        norm_num_groups=_whole(at(unet, "norm_num_groups")),
        num_heads=_whole(heads),
        head_dim=_whole(head_dim) if _whole(heads) is None else None,
        linear_start=_positive(at(params, "linear_start")),
        linear_end=_positive(at(params, "linear_end")),
        timesteps=_whole(at(params, "timesteps")),
        scale_factor=_positive(at(params, "scale_factor")),
        use_ema=_truth(at(params, "use_ema")),
    )


def _safe_yaml(path: Path) -> object:
    if path.stat().st_size > MAX_YAML:
        raise UnsafeFile(f"{path.name} is larger than {MAX_YAML >> 10} KiB.", advice="A model's configuration is a few KiB.")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = path.read_text(encoding="utf-8")
        depth = 0
        for count, event in enumerate(yaml.parse(text, Loader=loader)):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if count > MAX_YAML_EVENTS or depth > 50 or isinstance(event, yaml.AliasEvent):
                raise UnsafeFile(
                    f"{path.name} is too long or too deep, or uses aliases.", advice="No model's configuration needs that."
                )
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Unsupported(f"{path.name} is not a readable yaml file.", advice="Correct it, or move it away.") from error
