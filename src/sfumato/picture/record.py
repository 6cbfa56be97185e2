"""Our own lossless record of a request, kept in the picture beside A1111's text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from sfumato.errors import CorruptFile
from sfumato.parameter import parse
from sfumato.request import Generation, Img2Img, Txt2Img
from sfumato.version import __version__

_SCHEMA = 1
_KINDS: dict[str, type[Generation]] = {"txt2img": Txt2Img, "img2img": Img2Img}


def to_record(request: Generation, index: int = 0) -> dict[str, object]:
    """A JSON object from which picture `index` of the request can be made again. Source pictures become their hashes."""
    kind = next(name for name, cls in _KINDS.items() if isinstance(request, cls))
    values = {name: value for name, value in request if value != type(request).model_fields[name].default}
    return {
        "schema": _SCHEMA,
        "program": f"sfumato {__version__}",
        "kind": kind,
        "index": index,
        "request": {name: _portable(value) for name, value in values.items()},
    }


def from_record(record: Mapping[str, object]) -> tuple[Generation, int]:
    """The request of a record, and which of its pictures it is.

    Raises:
        CorruptFile: it is not a record that this version reads.
        InvalidRequest: its request is not valid.
    """
    cls = _KINDS.get(str(record.get("kind")))
    values, index = record.get("request"), record.get("index")
    if record.get("schema") != _SCHEMA or cls is None or not isinstance(values, Mapping) or not isinstance(index, int):
        raise CorruptFile("The picture's record is not one that this version reads.", advice="Use its parameters text instead.")
    return parse(cls, values), index


def _portable(value: object) -> object:
    if isinstance(value, bytes):
        return "sha256:" + hashlib.sha256(value).hexdigest()
    return [_portable(item) for item in value] if isinstance(value, tuple) else value
