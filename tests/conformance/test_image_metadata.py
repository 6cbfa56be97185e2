import base64
import io

import pytest
from PIL import Image
from vectors import by_id, load

from sfumato.picture import encode, format_of, read

_, CASES = load("image_metadata")


@pytest.mark.parametrize("case", by_id(CASES))
def test_text_is_read(case):
    info = read(base64.b64decode(case["file_base64"]))
    assert info.infotext == (case["expected_read"] or "")
    for key in case.get("expected_other_keys", ()):
        assert key in info.extra
    for key, text in case.get("expected_items", {}).items():
        assert info.extra[key] == text


@pytest.mark.parametrize("case", by_id([case for case in CASES if case["kind"] == "written_and_read"]))
def test_text_is_written(case):
    image = Image.open(io.BytesIO(base64.b64decode(case["file_base64"]))).convert("RGB")
    written = encode(image, format_of(case["extension"]), infotext=case["text"])
    assert written.extension == case["extension"]
    info = read(written.data)
    assert info.infotext == case["text"]
    if info.format == "PNG":
        kinds = {chunk["keyword"]: chunk["type"].encode() for chunk in case["text_chunks"]}
        assert all(kind + keyword.encode() + b"\0" in written.data for keyword, kind in kinds.items())
