"""Reads conformance vectors: those in this repository, or those of the folder that SFUMATO_VECTORS names."""

import json
import os
from pathlib import Path

import pytest


def load(category: str) -> tuple[dict, list[dict]]:
    """Header and cases of a category; skips the calling module when another folder lacks the category."""
    other = os.environ.get("SFUMATO_VECTORS")
    path = (Path(other) if other else Path(__file__).parent / "vectors") / f"{category}.json"
    if other and not path.exists():
        pytest.skip(f"{path} does not exist", allow_module_level=True)
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["header"]["count"] == len(data["cases"]), f"{path} is incomplete"
    return data["header"], data["cases"]


def by_id(cases: list[dict]) -> list:
    """The cases as pytest parameters named by their id."""
    return [pytest.param(case, id=case["id"]) for case in cases]
