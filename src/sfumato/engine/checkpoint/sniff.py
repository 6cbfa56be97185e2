"""What a file is, told from its content; names and extensions lie."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sfumato.engine.checkpoint.source import ByteSource
from sfumato.errors import CorruptFile, NotFound, UnsafeFile, Unsupported

Container = Literal["safetensors", "zip", "legacy", "folder"]
"""A weights container that can be read: safetensors, torch's zip and older pickle layouts, a diffusers folder."""

LEGACY_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""How pickle writes the number 0x1950a86a20f9469cfc6c that opens torch's older layout."""

OTHER_FORMATS: tuple[tuple[bytes, str, str], ...] = (
    (b"GGUF", "a GGUF file", "Use the safetensors version of the model."),
    (
        b"version https://git-lfs",
        "a git-lfs pointer, not the model itself",
        "Run 'git lfs pull' where it came from, or download the file.",
    ),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "Unpack it first."),
    (b"Rar!", "a RAR archive", "Unpack it first."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it first."),
    (b"\x89PNG", "a PNG picture", "Pictures with embeddings belong in the embeddings folder."),
    (b"\xff\xd8\xff", "a JPEG picture", "Give a model file."),
    (b"RIFF", "a WebP picture or a sound", "Give a model file."),
    (b"\x93NUMPY", "a NumPy array", "Convert it to safetensors."),
    (b"\x89HDF", "an HDF5 file", "Convert it to safetensors."),
    (b"\x08\x03\x12\x07pytorch", "an ONNX file", "Use the safetensors version of the model."),
    (b"%PDF", "a PDF", "Give a model file."),
)


def sniff(path: Path) -> Container:
    """The kind of container at `path`.

    Raises:
        NotFound: there is nothing there.
        CorruptFile: it is empty, cut, a git-lfs pointer, a web page, or nothing known.
        UnsafeFile: it is a pickle that torch did not write, or one that is named .safetensors.
        Unsupported: it is a known format that is no use here (GGUF, ONNX, archives, old tar layout).
    """
    if path.is_dir():
        return _sniff_folder(path)
    if not path.is_file():
        raise NotFound(f"There is no file {path}.", advice="Check the name.")
    source = ByteSource(path)
    try:
        head = source.read(0, min(source.size, 512))
    finally:
        source.close()
    container = _sniff_head(path.name, head)
    if container != "safetensors" and path.suffix.lower() == ".safetensors":
        raise UnsafeFile(f"{path.name} is a .ckpt, a pickle, and not what its name says.", advice="Rename it to .ckpt first.")
    return container


def _sniff_folder(path: Path) -> Container:
    if (path / "model_index.json").is_file() or (path / "unet").is_dir():
        return "folder"
    raise NotFound(f"The folder {path} is not a diffusers model.", advice="It would hold model_index.json and a folder 'unet'.")


def _sniff_head(name: str, head: bytes) -> Container:
    if not head:
        raise CorruptFile(f"{name} is empty.", advice="Copy or download it again.")
    if not head.strip(b"\0"):
        raise CorruptFile(f"{name} begins with zeros only.", advice="Its download was probably cut: download it again.")
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head[8:9] in (b"{", b" ") or (len(head) > 8 and int.from_bytes(head[:8], "little") < 1 << 24):
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return _sniff_pickle(name, head)
    if head[257:262] == b"ustar":
        raise Unsupported(f"{name} is a tar archive.", advice="PyTorch's oldest layout is not read; convert it to safetensors.")
    for magic, what, advice in OTHER_FORMATS:
        if head.startswith(magic):
            kind = CorruptFile if "pointer" in what else Unsupported
            raise kind(f"{name} is {what}.", advice=advice)
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise CorruptFile(f"{name} is a web page, not a model.", advice="Log in where it comes from and download it again.")
    if len(head) < 16:
        raise CorruptFile(f"{name} has only {len(head)} bytes.", advice="It was cut: copy or download it again.")
    raise CorruptFile(
        f"{name} is no model file that is known here.", advice="Known are safetensors, .ckpt/.pt/.bin and diffusers folders."
    )


def _sniff_pickle(name: str, head: bytes) -> Container:
    start = 11 if head[2:3] == b"\x95" else 2  # from protocol 4 on a frame of 9 bytes comes first
    if head[start : start + len(LEGACY_MAGIC)] == LEGACY_MAGIC:
        return "legacy"
    raise UnsafeFile(
        f"{name} is a plain Python pickle that PyTorch did not write.",
        advice="Such a file can only be opened by running what is in it; get a safetensors version.",
    )
