import gzip
import io
import json
import struct
import time
import zlib
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sfumato.errors import CorruptFile, NotFound, UnsafeFile, Unsupported
from sfumato.picture import encode, open_image, read


def png(texts=(), mode="RGB", size=(4, 4)):
    info = PngInfo()
    for key, text in dict(texts).items():
        info.add_text(key, text)
    out = io.BytesIO()
    Image.new(mode, size).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(kind, data):
    """A small PNG file with one more chunk after its header."""
    file = png()
    return file[:33] + chunk(kind, data) + file[33:]


def header(width, height):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b"")


def saved(format, **arguments):
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, format, **arguments)
    return out.getvalue()


HOSTILE = {
    "nothing": (b"", Unsupported),
    "no picture": (b"hello" * 100, Unsupported),
    "script": (b"<svg onload=alert(1)>", Unsupported),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", Unsupported),
    "bitmap": (saved("BMP"), Unsupported),
    "tiff": (saved("TIFF"), Unsupported),
    "too large": (header(65536, 65536), UnsafeFile),
    "a bit too large": (header(10_000, 10_000), UnsafeFile),
    "impossible size": (header(2**31 - 1, 2**31 - 1), UnsafeFile),
    "50 MB of text": (with_chunk(b"tEXt", b"parameters\0" + b"x" * 50_000_000), UnsafeFile),
    "compressed text bomb": (with_chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"x" * 20_000_000)), UnsafeFile),
    "international text bomb": (with_chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(b"x" * 20_000_000)), UnsafeFile),
    "many texts": (png({f"k{index}": "x" for index in range(300)}), UnsafeFile),
    "text cut off": (with_chunk(b"iTXt", b"a"), CorruptFile),
    "text not compressed": (with_chunk(b"zTXt", b"a\0\0garbage"), CorruptFile),
    "too much in EXIF": (saved("WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0" + b"x" * 2_000_000), UnsafeFile),
    "too much in XMP": (saved("WEBP", xmp=b"x" * 300_000), UnsafeFile),
    "long comment": (saved("GIF", comment=b"x" * 300_000), UnsafeFile),
    "no header": (b"\x89PNG\r\n\x1a\n", Unsupported),
}


@pytest.mark.parametrize(("data", "error"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_with_a_reason(data, error):
    start = time.process_time()
    with pytest.raises(error) as caught:
        read(data)
    assert time.process_time() - start < 1
    assert len(str(caught.value)) < 400


def test_large_files_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "big.png"
    with open(path, "wb") as file:
        file.truncate(65 * 1024 * 1024)
    with pytest.raises(UnsafeFile, match="68157440 bytes"):
        read(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(NotFound, match=r"none\.png"):
        read(tmp_path / "none.png")


def test_truncated_pixels_are_refused():
    data = encode(Image.effect_noise((64, 64), 50).convert("RGB")).data
    with pytest.raises(CorruptFile):
        open_image(data[: len(data) // 2])


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "avif", "gif"])
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files_give_our_errors_only(format, data):
    original = bytearray(encode(Image.linear_gradient("L").resize((16, 16)), format, infotext="a: b", record={"a": 1}).data)
    for _ in range(data.draw(st.integers(1, 8))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(original[: data.draw(st.integers(0, len(original)))])
    for action in (read, open_image):
        with suppress(CorruptFile, Unsupported, UnsafeFile):
            assert action(cut).width > 0


def test_invalid_utf8_is_shown_with_replacement():
    assert read(with_chunk(b"iTXt", b"parameters\0\0\0\0\0a \xff b")).infotext == "a \ufffd b"


def test_text_behind_the_pixels_is_found():
    file = png()
    assert read(file[:-12] + chunk(b"tEXt", b"parameters\0late") + file[-12:]).infotext == "late"


def test_first_text_of_a_keyword_counts():
    file = with_chunk(b"tEXt", b"parameters\0second")
    file = file[:33] + chunk(b"tEXt", b"parameters\0first") + file[33:]
    assert read(file).infotext == "first"


def test_pictures_stand_upright():
    image = Image.new("RGB", (4, 2), "red")
    turned = Image.Exif()
    turned[0x0112] = 6
    out = io.BytesIO()
    image.save(out, "JPEG", exif=turned.tobytes())
    assert open_image(out.getvalue()).size == (2, 4)


@pytest.mark.parametrize(
    ("mode", "expected"), [("1", "RGB"), ("L", "RGB"), ("LA", "RGBA"), ("P", "RGB"), ("RGBA", "RGBA"), ("I;16", "RGB")]
)
def test_modes_become_rgb_or_rgba(mode, expected):
    assert open_image(png(mode=mode)).mode == expected


GRAPH = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 5,
            "steps": 12,
            "cfg": 6.5,
            "sampler_name": "dpmpp_2m",
            "scheduler": "karras",
            "denoise": 0.5,
            "model": ["10", 0],
            "positive": ["6", 0],
            "negative": ["7", 0],
            "latent_image": ["5", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "base.v1.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 640, "height": 448}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["4", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": ["8", 0], "clip": ["4", 1]}},
    "8": {"class_type": "PrimitiveString", "inputs": {"value": "blurry"}},
    "10": {"class_type": "LoraLoader", "inputs": {"lora_name": "x", "model": ["4", 0]}},
}
LOOP = {"1": {"class_type": "KSampler", "inputs": {"steps": 1, "positive": ["2", 0]}}, "2": {"inputs": {"a": ["2", 0]}}}
INVOKE = {
    "positive_prompt": "a fox",
    "negative_prompt": "blurry",
    "steps": 9,
    "cfg_scale": 7,
    "seed": 3,
    "width": 64,
    "height": 32,
}
SWARM = {"sui_image_params": {"prompt": "a fox", "steps": 9, "cfgscale": 7, "seed": 3, "width": 64, "height": 32, "model": "m"}}
FOOOCUS = {"prompt": "a fox", "steps": 9, "seed": "3", "resolution": "(64, 32)", "base_model": "m", "sampler": "dpmpp_2m_sde_gpu"}
EASY = {
    "prompt": "a fox",
    "num_inference_steps": "9",
    "seed": "3",
    "use_stable_diffusion_model": "models/sd/m",
    "guidance_scale": "7",
}

TOOLS = {
    "comfy": (
        {"prompt": json.dumps(GRAPH), "workflow": "{}"},
        "ComfyUI",
        "a fox\nNegative prompt: blurry\nSize: 640x448, Steps: 12, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, "
        "Seed: 5, Model: base.v1, Denoising strength: 0.5",
    ),
    "comfy loop": ({"prompt": json.dumps(LOOP)}, "ComfyUI", "Size: 4x4, Steps: 1"),
    "comfy without sampler": ({"prompt": "{}", "workflow": "{}"}, "ComfyUI", ""),
    "invoke": (
        {"invokeai_metadata": json.dumps({**INVOKE, "scheduler": "euler", "model": {"name": "m"}})},
        "InvokeAI",
        "a fox\nNegative prompt: blurry\nSteps: 9, Sampler: Euler, CFG scale: 7, Seed: 3, Size: 64x32, Model: m",
    ),
    "old invoke": (
        {"Dream": '"a fox [blurry]" -s 9 -S 3 -W 64 -H 32 -C 7.5 -A k_lms'},
        "InvokeAI",
        "a fox\nNegative prompt: blurry\nSteps: 9, Sampler: LMS, CFG scale: 7.5, Seed: 3, Size: 64x32",
    ),
    "swarm": ({"parameters": json.dumps(SWARM)}, "SwarmUI", "a fox\nSteps: 9, CFG scale: 7, Seed: 3, Size: 64x32, Model: m"),
    "fooocus": (
        {"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"},
        "Fooocus",
        "a fox\nSteps: 9, Sampler: DPM++ 2M SDE, Seed: 3, Size: 64x32, Model: m",
    ),
    "easy diffusion": (EASY, "Easy Diffusion", "a fox\nSteps: 9, CFG scale: 7, Seed: 3, Size: 4x4, Model: m"),
    "ours": ({"parameters": "a\nSteps: 1, Seed: 2, Version: sfumato 9"}, "Sfumato", "a\nSteps: 1, Seed: 2, Version: sfumato 9"),
    "a1111": ({"parameters": "a\nSteps: 1"}, "AUTOMATIC1111", "a\nSteps: 1"),
    "deep json": ({"prompt": '{"a":' * 30_000}, "", ""),
    "json that is no object": ({"parameters": "[1]", "prompt": "[]"}, "AUTOMATIC1111", "[1]"),
}


@pytest.mark.parametrize(("texts", "tool", "infotext"), TOOLS.values(), ids=TOOLS)
def test_other_programs(texts, tool, infotext):
    info = read(png(texts))
    assert (info.tool, info.infotext) == (tool, infotext)


def test_comfy_in_webp():
    exif = Image.Exif()
    exif[0x0110] = "prompt:" + json.dumps(GRAPH)
    info = read(saved("WEBP", exif=exif.tobytes()))
    assert info.tool == "ComfyUI"
    assert info.parameters["Seed"] == "5"


def stealth(payload, size=(64, 64), bits=None):
    packed = gzip.compress(payload)
    data = b"stealth_pngcomp" + struct.pack(">I", len(packed) * 8 if bits is None else bits) + packed
    values = [254 + (byte >> shift & 1) for byte in data for shift in range(7, -1, -1)]
    image = Image.new("RGBA", size, (9, 9, 9, 254))
    for index, value in enumerate(values):
        image.putpixel((index // size[1], index % size[1]), (9, 9, 9, value))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def test_hidden_metadata_of_novelai():
    comment = json.dumps({"steps": 28, "sampler": "k_euler", "seed": 7, "scale": 5, "uc": "bad"})
    info = read(stealth(json.dumps({"Software": "NovelAI", "Description": "a heron", "Comment": comment}).encode()))
    assert info.tool == "NovelAI"
    assert info.infotext.startswith(
        "a heron\nNegative prompt: bad\nSteps: 28, Sampler: Euler, CFG scale: 5, Seed: 7, Size: 64x64"
    )


@pytest.mark.parametrize(("payload", "bits"), [(b"x" * 30_000_000, None), (b"{}", 2**32 - 1), (b"{}", 8), (b"not json", None)])
def test_broken_hidden_metadata_is_passed_over(payload, bits):
    assert read(stealth(payload, (600, 600), bits)).infotext == ""
