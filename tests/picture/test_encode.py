import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sfumato.errors import CorruptFile, InvalidRequest
from sfumato.picture import animate, encode, format_of, from_record, grid, grid_rows, read, strip, to_record
from sfumato.picture.exif import decode_comment
from sfumato.request import Img2Img, Txt2Img

TEXT = "лиса 狐 \U0001f98a\nNegative prompt: плохо\nSteps: 20, Seed: 1, Size: 8x6"
FORMATS = ("png", "jpeg", "webp", "avif", "gif")


def picture(mode="RGB", size=(16, 12)):
    return Image.linear_gradient("L").resize(size).convert(mode)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_every_format_carries_the_text(format, mode):
    written = encode(picture(mode), format, infotext=TEXT)
    info = read(written.data)
    assert (info.format.lower(), info.width, info.height, info.infotext) == (format, 16, 12, TEXT)
    assert info.parameters["Seed"] == "1"


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "avif"])
def test_pictures_say_that_a_machine_made_them(format):
    assert read(encode(picture(), format).data).origin == "trainedAlgorithmicMedia"
    assert read(encode(picture(), format, origin="composite").data).origin == "compositeWithTrainedAlgorithmicMedia"
    assert read(encode(picture(), format, origin=None).data).origin == ""


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "avif"])
def test_record_repeats_the_request(format):
    request = Txt2Img(prompt='a "b" <c> & d\n\té 狐', seed=3, subseed=4, cfg_scale=6.5, styles=("x", "y"))
    info = read(encode(picture(), format, record=to_record(request, 2)).data)
    assert from_record(info.record) == (request, 2)


def test_record_names_source_pictures_by_hash():
    request = Img2Img(init_images=(b"abc",), mask=b"abc")
    again, index = from_record(to_record(request))
    assert again.init_images == (again.mask,)
    assert again.mask == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert index == 0


@pytest.mark.parametrize("record", [{}, {"schema": 1, "kind": "x"}, {"schema": 2, "kind": "txt2img", "request": {}, "index": 0}])
def test_foreign_records_are_refused(record):
    with pytest.raises(CorruptFile):
        from_record(record)


def test_pixels_are_kept():
    image = picture("RGB", (33, 17))
    assert Image.open(io.BytesIO(encode(image).data)).tobytes() == image.tobytes()
    assert Image.open(io.BytesIO(encode(image, "webp", lossless=True).data)).convert("RGB").tobytes() == image.tobytes()


def test_metadata_of_the_source_is_not_passed_on():
    image = picture()
    image.info["comment"] = b"secret"
    image.info["parameters"] = "secret"
    assert b"secret" not in encode(image, "png", infotext="new").data
    assert b"secret" not in encode(image, "gif", infotext="new").data


@pytest.mark.parametrize(("format", "size"), [("webp", (16384, 1)), ("jpeg", (1, 65536)), ("avif", (65536, 1))])
def test_sides_that_a_format_cannot_hold_become_png(format, size):
    written = encode(Image.new("RGB", size), format, infotext=TEXT)
    assert (written.format, written.extension, written.mime) == ("png", ".png", "image/png")
    assert read(written.data).infotext == TEXT


def test_texts_that_a_jpeg_cannot_hold_become_png():
    assert encode(picture(), "jpeg", infotext="x" * 33_000).format == "png"
    long_record = encode(picture(), "jpeg", infotext="x", record={"prompt": "x" * 70_000})
    assert long_record.format == "jpeg"
    assert read(long_record.data).record is None
    assert read(long_record.data).origin == "trainedAlgorithmicMedia"


@given(st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_text_survives(text):
    for format in ("png", "webp"):
        expected = text.replace("\0", "")
        got = read(encode(picture(), format, infotext=text, record={"t": text}).data)
        # Line ends and blanks at the ends are the reader's business; what is between must stay.
        assert got.infotext == expected
        assert got.record is not None


@pytest.mark.parametrize(("word", "format"), [("jpg", "jpeg"), (".JPEG", "jpeg"), ("png", "png"), (".webp", "webp")])
def test_formats_by_name(word, format):
    assert format_of(word) == format


def test_unknown_format_is_explained():
    with pytest.raises(InvalidRequest, match="'bmp'"):
        format_of("bmp")


@pytest.mark.parametrize("format", ["webp", "gif", "png"])
def test_animations_show_every_frame(format):
    frames = [Image.new("RGB", (8, 8), (40 * index, 255 - 30 * index, 0)) for index in range(4)]
    written = animate(frames, format, duration=100, infotext=TEXT)
    assert written.format == format
    shown = Image.open(io.BytesIO(written.data))
    assert shown.n_frames == 4
    assert read(written.data).infotext == TEXT


def test_animation_needs_frames():
    with pytest.raises(ValueError, match="at least one"):
        animate([])


@pytest.mark.parametrize(
    ("count", "rows", "batch_size", "no_gaps", "expected"),
    [
        (1, -1, 1, False, 1),
        (4, -1, 1, False, 2),
        (5, -1, 1, False, 2),
        (7, -1, 1, False, 3),
        (7, -1, 1, True, 1),
        (6, -1, 1, True, 2),
        (6, 0, 3, False, 3),
        (6, 4, 1, False, 4),
        (2, 5, 1, False, 2),
    ],
)
def test_rows_of_a_grid(count, rows, batch_size, no_gaps, expected):
    assert grid_rows(count, rows, batch_size=batch_size, no_gaps=no_gaps) == expected


def test_grid_places_pictures_in_reading_order():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    sheet = grid([Image.new("RGB", (4, 2), colour) for colour in colours])
    assert sheet.size == (8, 4)
    assert [sheet.getpixel(place) for place in ((0, 0), (4, 0), (0, 2), (4, 2))] == [*colours, (255, 255, 255)]
    assert strip([Image.new("RGB", (4, 2))] * 3).size == (12, 2)
    with pytest.raises(ValueError, match="at least one"):
        grid([])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"UNICODE\0" + "aé".encode("utf-16-be"), "aé"),
        (b"UNICODE\0" + "aé".encode("utf-16-le"), "aé"),
        (b"UNICODE\0" + "aé".encode("utf-16"), "aé"),
        (b"ASCII\0\0\0plain\0", "plain"),
        (b"\0" * 8 + "é".encode(), "é"),
        ("no mark é".encode(), "no mark é"),
        (b"UNICODE\0", ""),
        (b"", ""),
        (b"UNICODE\0a", "\ufffd"),
    ],
)
def test_comments_in_any_encoding(value, text):
    assert decode_comment(value) == text
