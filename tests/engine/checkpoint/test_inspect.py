"""Reports: every kind of file is recognised by its tensors, whatever it is called."""

import hashlib

import pytest
import torch
from safetensors.torch import save_file
from tests.engine.checkpoint.small_specs import SPECS
from tests.tiny import random_model

from sfumato.engine.checkpoint.hashes import HashCache
from sfumato.engine.checkpoint.inspect import inspect
from sfumato.engine.checkpoint.save import save

W = torch.ones


def lora(prefix, inner, rank=4, width=768, suffixes=("lora_down.weight", "lora_up.weight")):
    return {f"{prefix}{inner}.{suffixes[0]}": W(rank, width), f"{prefix}{inner}.{suffixes[1]}": W(320, rank)}


BLOCK = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
DOTTED = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
HINT = "control_model.input_hint_block.0.weight"
FILES = {
    "lora sd1": (lora("lora_unet_", BLOCK), "lora", "sd1"),
    "lora sd2": (lora("lora_unet_", BLOCK, width=1024), "lora", "sd2"),
    "lora sdxl": (lora("lora_te2_", "text_model_encoder_layers_0_mlp_fc1"), "lora", "sdxl"),
    "lora of peft": (lora("unet.", DOTTED, suffixes=("lora_A.weight", "lora_B.weight")), "lora", "sd1"),
    "lora of diffusers": (lora("unet.", DOTTED, suffixes=("lora.down.weight", "lora.up.weight")), "lora", "sd1"),
    "loha": ({f"lora_unet_{BLOCK}.hada_w1_a": W(320, 4), f"lora_unet_{BLOCK}.hada_w1_b": W(4, 768)}, "lora", "sd1"),
    "lokr": ({f"lora_unet_{BLOCK}.lokr_w1": W(8, 8), f"lora_unet_{BLOCK}.lokr_w2": W(8, 8)}, "lora", None),
    "full": ({f"lora_unet_{BLOCK}.diff": W(8, 8)}, "lora", None),
    "embedding": ({"emb_params": W(2, 768)}, "embedding", "sd1"),
    "embedding sd2": ({"<x>": W(1024)}, "embedding", "sd2"),
    "embedding sdxl": ({"clip_l": W(2, 768), "clip_g": W(2, 1280)}, "embedding", "sdxl"),
    "controlnet": (
        {HINT: W(1), "control_model.zero_convs.0.0.weight": W(1)},
        "controlnet",
        None,
    ),
    "bare controlnet": ({"input_blocks.0.0.weight": W(1), "zero_convs.0.0.weight": W(1)}, "controlnet", None),
    "controlnet of diffusers": (
        {"controlnet_mid_block.weight": W(1), "conv_in.weight": W(1)},
        "controlnet",
        None,
    ),
    "t2i-adapter": ({"adapter.body.0.block1.weight": W(1), "adapter.conv_in.weight": W(1)}, "t2i-adapter", None),
    "ip-adapter": ({"image_proj.proj.weight": W(1), "ip_adapter.1.to_k_ip.weight": W(1)}, "ip-adapter", None),
    "bare unet": ({"input_blocks.0.0.weight": W(8, 4, 3, 3), "out.2.weight": W(4, 8, 3, 3)}, "unet", None),
    "unet of diffusers": ({"down_blocks.0.resnets.0.norm1.weight": W(1), "conv_in.weight": W(1)}, "unet", None),
    "vae": ({"encoder.conv_in.weight": W(1), "decoder.mid.block_1.norm1.weight": W(1)}, "vae", None),
    "vae in a checkpoint": ({"first_stage_model.encoder.conv_in.weight": W(1)}, "vae", None),
    "text encoder": ({"text_model.embeddings.token_embedding.weight": W(1)}, "text-encoder", None),
    "old upscaler": ({"model.0.weight": W(1), "model.1.sub.0.RDB1.conv1.0.weight": W(1)}, "upscaler", None),
    "upscaler": ({"conv_first.weight": W(1), "body.0.rdb1.conv1.weight": W(1)}, "upscaler", None),
    "preview": ({"1.weight": W(1), "3.conv.0.weight": W(1)}, "preview", None),
    "other": ({"whatever": W(3)}, "other", None),
}


@pytest.mark.parametrize("name", FILES)
def test_kinds(name, tmp_path):
    tensors, kind, base = FILES[name]
    save_file(tensors, tmp_path / "model.safetensors")
    report = inspect(tmp_path / "model.safetensors")
    assert (report.kind, report.base) == (kind, base)
    assert report.tensors == len(tensors)
    assert report.parameters == sum(value.numel() for value in tensors.values())


def test_details(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(lora("lora_unet_", BLOCK, rank=16, width=99), path, metadata={"ss_base_model_version": "sdxl_base_v1-0"})
    report = inspect(path)
    assert (report.rank, report.base, report.container) == ((16,), "sdxl", "safetensors")
    assert report.metadata["ss_base_model_version"] == "sdxl_base_v1-0"
    save_file({"emb_params": torch.ones(5, 768).half()}, path)
    assert inspect(path).vectors == 5
    assert inspect(path).dtypes == {"float16": 5 * 768}


@pytest.mark.parametrize("name", ["sd1", "sdxl", "refiner"])
def test_checkpoints_and_folders(name, tmp_path):
    model = random_model(SPECS[name])
    save(model, tmp_path / "m.safetensors")
    save(model, tmp_path / "m", layout="diffusers")
    for path in (tmp_path / "m.safetensors", tmp_path / "m"):
        report = inspect(path)
        assert (report.kind, report.base) == ("checkpoint", model.spec.family)
        assert report.spec.unet == model.spec.unet
    assert inspect(tmp_path / "m").hashes() == {}


def test_a_stranger_is_reported(tmp_path):
    save_file({"model.diffusion_model.joint_blocks.0.weight": W(1)}, tmp_path / "m.safetensors")
    report = inspect(tmp_path / "m.safetensors")
    assert (report.kind, report.spec) == ("checkpoint", None)
    assert "Stable Diffusion 3" in report.warnings[0]


def test_bad_values_are_named(tmp_path):
    tensors = {"a": W(2), "b": torch.tensor([1.0, float("inf")]), "c": torch.tensor([float("nan")]).to(torch.float8_e4m3fn)}
    save_file(tensors, tmp_path / "m.safetensors")
    assert inspect(tmp_path / "m.safetensors", check_values=True).not_finite == ("b", "c")


def test_hashes(tmp_path):
    path = tmp_path / "m.safetensors"
    save_file({"a": W(2)}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for cache in (None, HashCache(tmp_path / "hashes.json")):
        found = inspect(path).hashes(cache)
        assert (found["sha256"], found["short"]) == (digest, digest[:10])
        assert len(found["network"]) == 64
        assert len(found["legacy"]) == 8
