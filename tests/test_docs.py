"""The reference pages say what the source says. `python tests/test_docs.py` writes the generated page anew."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sfumato import errors
from sfumato.cli.main import VERBS
from sfumato.cli.parameters import ALIASES
from sfumato.request import Img2Img, Parameter, Txt2Img, fields

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/reference/parameters.md"
HEAD = """\
# Parameters

Everything a request can hold, generated from the declarations in `src/sfumato/request`. The option of a parameter on the command
line is its name with dashes (`cfg_scale`: `--cfg-scale`); the name in the AUTOMATIC1111 webui works as well. Parameters marked
*later* are understood, and refused with a sentence when they are changed, because this version cannot serve them yet.
"""


def sentence(parameter: Parameter) -> str:
    """What one parameter is, allows and defaults to."""
    parts = [parameter.help if parameter.available else f"*Later.* {parameter.help}"]
    if parameter.choices:
        parts.append("One of " + ", ".join(f"`{choice}`" for choice in parameter.choices) + ".")
    elif parameter.kind in ("int", "float") and parameter.allowed not in ("a whole number", "a number"):
        parts.append(parameter.allowed[:1].upper() + parameter.allowed[1:] + ".")
    if parameter.default not in ("", (), None):
        parts.append(f"Default `{str(parameter.default).lower() if parameter.kind == 'bool' else parameter.default}`.")
    return " ".join(parts).replace("|", "\\|").replace("<", "\\<")


def rows(cls: type[Txt2Img] | type[Img2Img], leave_out: frozenset[Parameter] = frozenset()) -> Iterator[str]:
    """The groups of a request, a table each."""
    group = ""
    for parameter in fields(cls):
        if parameter in leave_out:
            continue
        if parameter.group != group:
            group = parameter.group
            yield f"\n### {group}\n\n| name | AUTOMATIC1111 | meaning |\n|---|---|---|"
        theirs = f"`{parameter.a1111}`" if parameter.a1111 and parameter.a1111 != parameter.name else ""
        others = ", ".join(f"`{name}`" for name in ALIASES.get(parameter.name, ()))
        yield f"| `{parameter.name}` | {theirs} | {sentence(parameter)}{f' Also {others}.' if others else ''} |"


def page() -> str:
    """The whole page."""
    common = frozenset(fields(Txt2Img))
    parts = [HEAD, "## Text to image", *rows(Txt2Img), "\n## Image to image: what is different or new", *rows(Img2Img, common)]
    return "\n".join(parts) + "\n"


def test_parameters_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/test_docs.py"


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


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
