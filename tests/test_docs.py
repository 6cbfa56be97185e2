"""The reference pages say what the source says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sfumato import errors
from sfumato.cli.main import VERBS

ROOT = Path(__file__).resolve().parent.parent


def test_every_verb_is_on_the_reference_page() -> None:
    text = (ROOT / "docs/reference/command-line.md").read_text(encoding="utf-8")
    assert all(f"| `{verb.name}" in text for verb in VERBS)


def test_every_exit_code_is_on_the_reference_page() -> None:
    text = (ROOT / "docs/reference/command-line.md").read_text(encoding="utf-8")
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    used = {value.exit_code for value in vars(errors).values() if isinstance(value, type) and hasattr(value, "exit_code")}
    assert listed == used | {0}


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("README.md")), ids=lambda path: path.parent.name)
def test_every_page_is_reachable_from_its_index(page: Path) -> None:
    links = set(re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")))
    missing = [other.name for other in page.parent.glob("*.md") if other != page and other.name not in links]
    assert not missing
