"""`sfumato models`: the models in the folders."""

from __future__ import annotations

import json

from sfumato.cli.app import MakeApp
from sfumato.cli.options import add_app_options, folder_options
from sfumato.cli.parser import Parser


def run(argv: list[str], make_app: MakeApp) -> int:
    """List the models as a table or as JSON."""
    parser = Parser("models", "[OPTIONS]", "List the models at hand; their names are what --model and --vae take.")
    parser.add_argument("--json", action="store_true", help="one JSON object per model")
    parser.add_argument("--kind", metavar="WORD", help="only these: checkpoint, vae, taesd")
    add_app_options(parser, device=False)
    found = parser.read(argv)
    kind = getattr(found, "kind", None)
    entries = [entry for entry in make_app(folder_options(found)).models() if kind in (None, entry.kind)]
    if hasattr(found, "json"):
        for entry in entries:
            facts = {"name": entry.name, "title": entry.title, "kind": entry.kind, "path": str(entry.path)}
            print(json.dumps(facts | {"size": entry.size, "hash": entry.short_hash}, ensure_ascii=False))
        return 0
    if not entries:
        print("There is no model yet; put a .safetensors file into models/Stable-diffusion, or name one with --model FILE.")
        return 0
    rows = [("name", "kind", "size", "hash", "title")]
    rows += [(entry.name, entry.kind, size_text(entry.size), entry.short_hash, entry.title) for entry in entries]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]).rstrip())
    return 0


def size_text(size: int) -> str:
    """Bytes as people say them; nothing for a folder."""
    return "" if not size else f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
