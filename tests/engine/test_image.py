import pytest
from PIL import Image

from sfumato.engine.image import fit, flatten, lanczos


def stripes(width, height):
    """Every column has its own red, every row its own green."""
    image = Image.new("RGB", (width, height))
    image.putdata([(x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), 7) for y in range(height) for x in range(width)])
    return image


@pytest.mark.parametrize("mode", ["just resize", "crop and resize", "resize and fill"])
@pytest.mark.parametrize("source", [(64, 64), (100, 30), (31, 97), (1, 50), (3000, 2)])
@pytest.mark.parametrize("target", [(64, 64), (72, 40), (40, 72), (33, 65)])
def test_size_is_exact(mode, source, target):
    assert fit(stripes(*source), *target, mode).size == target


def test_same_size_is_the_same_picture():
    image = stripes(24, 16)
    for mode in ("just resize", "crop and resize", "resize and fill", "latent"):
        assert fit(image, 24, 16, mode).tobytes() == image.tobytes()


def test_just_resize_changes_the_shape():
    assert fit(stripes(40, 20), 20, 20, "just resize").tobytes() == lanczos(stripes(40, 20), 20, 20).tobytes()


def test_crop_keeps_the_middle():
    result = fit(stripes(40, 20), 20, 20, "crop and resize")
    assert result.tobytes() == stripes(40, 20).crop((10, 0, 30, 20)).tobytes()
    tall = fit(stripes(20, 40), 20, 20, "crop and resize")
    assert tall.tobytes() == stripes(20, 40).crop((0, 10, 20, 30)).tobytes()


@pytest.mark.parametrize("height", [40, 41])
def test_fill_stretches_the_edges(height):
    image = Image.new("RGB", (20, 20), "gray")
    image.paste("red", (0, 0, 20, 3))
    image.paste("blue", (0, 17, 20, 20))
    result = fit(image, 20, height, "resize and fill")
    assert result.getpixel((5, 0)) == result.getpixel((5, 9)) == (255, 0, 0)
    assert result.getpixel((5, height - 1)) == result.getpixel((5, height - 9)) == (0, 0, 255)
    assert result.crop((0, height // 2 - 10, 20, height // 2 + 10)).tobytes() == image.tobytes()


def test_fill_sideways():
    image = Image.new("RGB", (20, 20), "gray")
    image.paste("red", (0, 0, 3, 20))
    result = fit(image, 41, 20, "resize and fill")
    assert result.getpixel((0, 5)) == (255, 0, 0)
    assert result.getpixel((40, 5)) == (128, 128, 128)


def test_latent_mode_leaves_the_picture():
    assert fit(stripes(40, 20), 64, 64, "latent").size == (40, 20)


def test_masks_stay_masks():
    assert fit(Image.new("L", (10, 20), 200), 16, 16, "resize and fill").mode == "L"


def test_enlarger_is_used():
    calls = []

    def enlarge(image, width, height):
        calls.append((width, height))
        return lanczos(image, width, height)

    fit(stripes(20, 10), 40, 40, "crop and resize", enlarge)
    assert calls == [(80, 40)]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_shows_the_background(mode):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (255, 255, 255, 255))
    if mode == "P":
        flat = Image.new("P", (2, 1))
        flat.putpalette([1, 2, 3, 255, 255, 255])
        flat.putpixel((1, 0), 1)
        flat.info["transparency"] = 0
        image = flat
    else:
        image = image.convert(mode)
    result = flatten(image, "#102030")
    assert result.mode == "RGB"
    assert [result.getpixel((0, 0)), result.getpixel((1, 0))] == [(16, 32, 48), (255, 255, 255)]


def test_opaque_pictures_become_rgb():
    assert flatten(Image.new("L", (2, 2), 5)).getpixel((0, 0)) == (5, 5, 5)
