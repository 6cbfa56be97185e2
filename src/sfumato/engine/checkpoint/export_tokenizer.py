"""CLIP's tokenizer as the files that transformers reads, made from the merges that this package ships."""

from __future__ import annotations

import gzip
import json
from importlib.resources import files
from itertools import chain
from pathlib import Path

from sfumato.engine.checkpoint.writer import write_text

START, END = "<|startoftext|>", "<|endoftext|>"


def vocabulary() -> tuple[dict[str, int], str]:
    """Tokens with their ids, and the merges as the text that byte-pair encoders read, first line included."""
    text = gzip.decompress((files("sfumato.engine.models") / "clip_merges.txt.gz").read_bytes()).decode("utf-8")
    merges = [line for line in text.splitlines()[1:] if line]
    signs = _byte_signs()
    merged = (line.replace(" ", "") for line in merges)
    tokens = chain(signs, (f"{sign}</w>" for sign in signs), merged, (START, END))
    return {token: number for number, token in enumerate(tokens)}, "\n".join(["#version: 0.2", *merges, ""])


def _byte_signs() -> list[str]:
    """The sign that stands for each byte, in the order of ids: printable Latin-1 as itself, the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(others)]


def write_tokenizer(folder: Path, *, pad: str = END, length: int = 77) -> None:
    """Write `vocab.json`, `merges.txt` and the configuration of a CLIPTokenizer.

    Args:
        folder: which exists.
        pad: the token that fills short prompts: the end token (CLIP-L), or "!" (id 0, OpenCLIP).
        length: longest sequence.

    Raises:
        DiskFull, NotFound: as `write_safetensors` says.
    """
    tokens, merges = vocabulary()
    special = {
        "bos_token": _token(START),
        "eos_token": _token(END),
        "pad_token": pad,
        "unk_token": _token(END),
    }
    config = {
        "add_prefix_space": False,
        "bos_token": START,
        "do_lower_case": True,
        "eos_token": END,
        "errors": "replace",
        "model_max_length": length,
        "pad_token": pad,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": END,
    }
    write_text(folder / "vocab.json", json.dumps(tokens, ensure_ascii=False))
    write_text(folder / "merges.txt", merges)
    write_text(folder / "special_tokens_map.json", json.dumps(special, indent=2))
    write_text(folder / "tokenizer_config.json", json.dumps(config, indent=2))


def _token(content: str) -> dict[str, object]:
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
