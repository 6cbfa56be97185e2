"""Writes parameters.md from the declarations of the requests: python docs/reference/parameters.py."""

from __future__ import annotations

from pathlib import Path

from sfumato.request import Img2Img, Parameter, Txt2Img, fields

HEAD = """# Parameters

<!-- Written by docs/reference/parameters.py from the declarations in src/sfumato/request. Do not edit by hand. -->

Every generation parameter: its name in requests, in the HTTP API and (with dashes) on the command line; what may be given;
its key in a picture's parameters text; and the field or option that A1111 has for it. Parameters marked *later* are
understood, but refused with a message until the version that brings them.
"""


def page() -> str:
    """The whole page."""
    shared = {parameter.name for parameter in fields(Txt2Img)} & {parameter.name for parameter in fields(Img2Img)}
    both = [parameter for parameter in fields(Txt2Img) if parameter.name in shared and parameter in fields(Img2Img)]
    only_text = [parameter for parameter in fields(Txt2Img) if parameter not in both]
    only_image = [parameter for parameter in fields(Img2Img) if parameter not in both]
    parts = (("Text to image, and image to image", both), ("Text to image only", only_text), ("Image to image only", only_image))
    return HEAD + "".join(f"\n## {title}\n{tables(parameters)}" for title, parameters in parts)


def tables(parameters: list[Parameter]) -> str:
    """A table for each group."""
    groups = dict.fromkeys(parameter.group for parameter in parameters)
    return "".join(table(group, [item for item in parameters if item.group == group]) for group in groups)


def table(group: str, parameters: list[Parameter]) -> str:
    """The table of one group."""
    head = "| name | what it does | allowed | default | infotext | A1111 |\n|---|---|---|---|---|---|\n"
    return f"\n### {group}\n\n{head}" + "".join(row(parameter) for parameter in parameters)


def row(parameter: Parameter) -> str:
    """One parameter."""
    later = "" if parameter.available else " *Later.*"
    cells = (
        f"`{parameter.name}`",
        f"**{parameter.title}.** {parameter.help}{later}",
        parameter.allowed,
        shown(parameter),
        parameter.infotext,
        f"`{parameter.a1111}`" if parameter.a1111 else "",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def shown(parameter: Parameter) -> str:
    """The default, in words."""
    if parameter.default is None:
        return "as the model or sampler has it" if parameter.kind == "float" else "none"
    if isinstance(parameter.default, bool):
        return str(parameter.default).lower()
    return str(parameter.default) if parameter.default not in ("", ()) else "empty"


if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
