"""Pictures inside a request: encoded bytes, or the hash of bytes that the receiver keeps."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

MAX_IMAGE_BYTES = 64 * 1024 * 1024

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


def _validate(value: object) -> object:
    """Bytes and content hashes as they are; any other text is base64, with or without a data: prefix."""
    if isinstance(value, str) and not _HASH.fullmatch(value):
        text = value.partition(",")[2] if value.startswith("data:") else value
        try:
            value = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("this is neither base64 data of a picture nor sha256:<64 hex digits>.") from None
    if isinstance(value, bytes) and not 0 < len(value) <= MAX_IMAGE_BYTES:
        raise ValueError(f"a picture has between 1 and {MAX_IMAGE_BYTES} bytes; this one has {len(value)}.")
    return value


def _serialize(value: bytes | str) -> str:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value


ImageData = Annotated[bytes | str, BeforeValidator(_validate), PlainSerializer(_serialize, return_type=str, when_used="json")]
"""An encoded picture (PNG, JPEG, WebP, ...), or the hash `sha256:<hex>` of one; base64 in JSON."""
