"""What a model file is and holds, without loading it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from sfumato.engine.checkpoint.family import detect
from sfumato.engine.checkpoint.hashes import HashCache, legacy_hash, network_hash, sha256
from sfumato.engine.checkpoint.open import open_model, open_table
from sfumato.engine.checkpoint.pickle_reader import read_pickle
from sfumato.engine.checkpoint.sniff import sniff
from sfumato.engine.checkpoint.table import LazyTensor, TensorTable
from sfumato.engine.models.config import ModelSpec
from sfumato.errors import CorruptFile, Unsupported

Kind = Literal[
    "checkpoint", "unet", "vae", "lora", "embedding", "hypernetwork", "controlnet", "t2i-adapter", "ip-adapter", "upscaler",
    "preview", "text-encoder", "other",
]  # fmt: skip

MARKS: tuple[tuple[Kind, str], ...] = (
    ("ip-adapter", r"^(ip_adapter|image_proj)\."),
    ("controlnet", r"^(control_model\.)?(input_hint_block|zero_convs|control_add_embedding)\.|^controlnet_\w+\.|^lllite_"),
    ("lora", r"\.(lora_(up|down|A|B|mid|linear_layer)|hada_w1_a|lokr_w[12](_a)?|oft_blocks|oft_diag|a1|diff|lora)(\.|$)"),
    ("embedding", r"^(string_to_param\.|emb_params$|clip_[lg]$)"),
    ("checkpoint", r"^(model\.diffusion_model|model_ema)\."),
    ("unet", r"^(unet\.)?(input_blocks|down_blocks|diffusion_model\.input_blocks)\.\d"),
    ("t2i-adapter", r"^(adapter\.)?body\.\d+\.(block1|block2|in_conv|resnets)\b"),
    ("vae", r"^(first_stage_model\.)?(encoder|decoder)\.(conv_in|mid|down|up)"),
    ("text-encoder", r"^(text_model\.|transformer\.resblocks\.|cond_stage_model\.|conditioner\.)"),
    ("upscaler", r"^(params(_ema)?\.)?(conv_first\.|model\.1\.sub\.|body\.\d+\.|layers\.0\.residual_group\.)"),
    ("preview", r"^\d+\.(conv\.\d+\.)?(weight|bias)$"),
)
"""Kinds of files and the tensor names that show them; the first that matches any name counts."""

DOWNS = (
    ".lora_down.weight",
    ".lora_A.weight",
    ".lora_A.default.weight",
    ".lora.down.weight",
    ".lora_linear_layer.down.weight",
    ".hada_w1_b",
)
"""Ends of the names of LoRA matrices whose first dimension is the rank."""
BASES: Mapping[int, str] = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl-refiner"}
"""Families by the width of the text features that a part of theirs takes."""
NETWORK_BASES = (
    ("sdxl", "sdxl"),
    ("stable-diffusion-xl", "sdxl"),
    ("sd_v2", "sd2"),
    ("v2", "sd2"),
    ("sd_v1", "sd1"),
    ("v1", "sd1"),
)


@dataclass(frozen=True)
class Report:
    """What is known of a file.

    Attributes:
        path: of the file or folder.
        container: safetensors, zip, legacy or folder.
        kind: what it is for.
        bytes: size of all tensors as stored.
        tensors, parameters: how many of each.
        dtypes: parameters by dtype, most first.
        base: family that it is, or belongs to, where that can be told.
        spec: of a whole checkpoint.
        rank: of a LoRA, most frequent first.
        vectors: of an embedding.
        metadata: as the file holds it.
        warnings: what is odd about it, as sentences.
        not_finite: names of tensors with NaN or infinity; None where they were not looked at.
    """

    path: Path
    container: str
    kind: Kind
    bytes: int
    tensors: int
    parameters: int
    dtypes: Mapping[str, int]
    base: str | None = None
    spec: ModelSpec | None = None
    rank: tuple[int, ...] = ()
    vectors: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    not_finite: tuple[str, ...] | None = None

    def hashes(self, cache: HashCache | None = None) -> dict[str, str]:
        """sha256, short, legacy and (safetensors) network hash; reads the whole file unless `cache` knows them."""
        if self.path.is_dir():
            return {}
        full = cache.get(self.path) if cache else sha256(self.path)
        result = {"sha256": full, "short": full[:10], "legacy": legacy_hash(self.path)}
        if self.container == "safetensors":
            result["network"] = cache.get(self.path, "network") if cache else network_hash(self.path)
        return result


def inspect(path: str | Path, *, check_values: bool = False) -> Report:
    """A report on a file or diffusers folder.

    Args:
        path: of any model file.
        check_values: read all tensors and name those that hold NaN or infinity.

    Raises:
        NotFound, CorruptFile, UnsafeFile, Unsupported: it cannot be read at all. A checkpoint of another family is reported.
    """
    path = Path(path)
    container = sniff(path)
    if container == "folder":
        source = open_model(path)
        return _report(path, container, source.table, "checkpoint", check_values, spec=detect(source.table, source.hints))
    if container != "safetensors":
        other = _report_pickled(path, container)
        if other is not None:
            return other
    table = open_table(path)
    kind = kind_of(table)
    if kind != "checkpoint":
        return _report(path, container, table, kind, check_values, base=_base(table, kind))
    spec, problem = _spec(path)
    return _report(path, container, table, kind, check_values, spec=spec, problem=problem)


def kind_of(table: TensorTable) -> Kind:
    """What a file is for, told from the names of its tensors."""
    names = list(table)
    if any(name.startswith("model.diffusion_model.") for name in names):
        return "checkpoint"
    if (
        not any(name.startswith(("first_stage_model.", "control_model.")) for name in names)
        and "input_blocks.0.0.weight" in table
    ):
        return "controlnet" if any(name.startswith(("input_hint_block.", "zero_convs.")) for name in names) else "unet"
    for kind, pattern in MARKS:
        compiled = re.compile(pattern)
        if any(compiled.search(name) for name in names):
            return kind
    if len(names) == 1 and len(table[names[0]].shape) in (1, 2) and table[names[0]].shape[-1] in BASES:
        return "embedding"
    return "other"


def _report(
    path: Path,
    container: str,
    table: TensorTable,
    kind: Kind,
    check_values: bool,
    *,
    spec: ModelSpec | None = None,
    base: str | None = None,
    problem: str = "",
) -> Report:
    dtypes: Counter[str] = Counter()
    for tensor in table.values():
        dtypes[str(tensor.dtype).removeprefix("torch.")] += tensor.numel
    return Report(
        path=path,
        container=container,
        kind=kind,
        bytes=table.nbytes,
        tensors=len(table),
        parameters=sum(dtypes.values()),
        dtypes=dict(dtypes.most_common()),
        base=spec.family if spec else base,
        spec=spec,
        rank=_ranks(table) if kind == "lora" else (),
        vectors=_vectors(table) if kind == "embedding" else None,
        metadata=table.metadata,
        warnings=table.warnings + ((problem,) if problem else ()),
        not_finite=_not_finite(table) if check_values else None,
    )


def _spec(path: Path) -> tuple[ModelSpec | None, str]:
    """The specification of a checkpoint, or why there is none."""
    source = open_model(path)
    try:
        return detect(source.table, source.hints), ""
    except (Unsupported, CorruptFile) as error:
        return None, str(error)


def _report_pickled(path: Path, container: str) -> Report | None:
    """A hypernetwork, whose tensors have no names of their own; None for anything else."""
    root = read_pickle(path)
    widths = [key for key in root if isinstance(key, int)] if isinstance(root, dict) else []
    if not widths or not isinstance(root, dict):
        return None
    tensors: dict[str, LazyTensor] = {}
    for width in widths:
        halves = root[width]
        for side, half in zip("kv", halves if isinstance(halves, (tuple, list)) else (), strict=False):
            items = half.items() if isinstance(half, dict) else ()
            tensors |= {f"{width}.{side}.{name}": value for name, value in items if isinstance(value, LazyTensor)}
    texts = {key: str(value) for key, value in root.items() if isinstance(key, str) and isinstance(value, (str, int, float))}
    table = TensorTable(path, tensors, {key: value for key, value in texts.items() if len(value) < 1000})
    base = next((BASES[width] for width in widths if width in BASES), None)
    return _report(path, container, table, "hypernetwork", False, base=base)


def _ranks(table: TensorTable) -> tuple[int, ...]:
    ranks = Counter(tensor.shape[0] for name, tensor in table.items() if name.endswith(DOWNS) and tensor.shape)
    return tuple(rank for rank, _ in ranks.most_common(8))


def _vectors(table: TensorTable) -> int | None:
    shapes = [tensor.shape for tensor in table.values() if len(tensor.shape) in (1, 2)]
    return next((1 if len(shape) == 1 else shape[0] for shape in shapes), None)


def _base(table: TensorTable, kind: Kind) -> str | None:
    """The family that a part belongs to, by its metadata or by the width of the text features it takes."""
    told = " ".join(table.metadata.get(key, "") for key in ("ss_base_model_version", "modelspec.architecture")).lower()
    found = next((base for word, base in NETWORK_BASES if word in told), None)
    if found or kind in ("vae", "upscaler", "preview", "text-encoder"):
        return found
    if kind == "embedding":
        widths = {tensor.shape[-1] for tensor in table.values() if tensor.shape}
        return "sdxl" if {768, 1280} <= widths else next((BASES[width] for width in sorted(widths) if width in BASES), None)
    if any(name.startswith(("lora_te2_", "text_encoder_2.")) for name in table):
        return "sdxl"
    ends = (*DOWNS, "attn2.to_k.weight")
    keys = (tensor for name, tensor in table.items() if ("attn2_to_k." in name or "attn2.to_k." in name) and name.endswith(ends))
    inner = (tensor.shape[1] for tensor in keys if len(tensor.shape) == 2)
    return next((BASES[width] for width in inner if width in BASES), None)


def _not_finite(table: TensorTable) -> tuple[str, ...]:
    """Names of tensors with NaN or infinity."""
    found = []
    for name, tensor in table.items():
        if tensor.dtype.is_floating_point:
            value = tensor.read()
            exact = value.float() if value.dtype.itemsize == 1 else value
            if not bool(torch.isfinite(exact).all()):
                found.append(name)
    return tuple(found)
