"""Saving a picture: whole or not at all, in the format asked for, the steps beside it."""

import builtins
import errno
import json

import pytest
from PIL import Image
from tests.pictures import gradient

from sfumato.errors import DiskFull, InvalidRequest
from sfumato.picture import read
from sfumato.service.generated import GeneratedImage

TEXT = "a red circle\nSteps: 2, Sampler: Euler, Seed: 7, Size: 64x64"


def one(**changes):
    base = {"index": 0, "seed": 7, "image": gradient(64, 48), "infotext": TEXT, "record": {"schema": 1}}
    return GeneratedImage(**{**base, **changes})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("suffix", "format"), [("png", "PNG"), ("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP"), ("avif", "AVIF")]
)
def test_formats(tmp_path, suffix, format):
    path = one().save(tmp_path / "new folder" / f"one.{suffix}")
    assert path == tmp_path / "new folder" / f"one.{suffix}"
    with Image.open(path) as image:
        assert (image.format, image.size) == (format, (64, 48))
    assert read(path).infotext == TEXT
    assert names(path.parent) == [path.name]


def test_pixels_are_kept(tmp_path):
    with Image.open(one().save(tmp_path / "one.png")) as image:
        assert image.tobytes() == gradient(64, 48).tobytes()


def test_unknown_format(tmp_path):
    with pytest.raises(InvalidRequest, match="xyz"):
        one().save(tmp_path / "one.xyz")
    assert names(tmp_path) == []


def test_a_text_too_long_for_jpeg(tmp_path):
    text = "x" * 70000 + "\nSteps: 2, Seed: 7"
    path = one(infotext=text).save(tmp_path / "one.jpg")
    assert path.suffix == ".png"
    assert names(tmp_path) == ["one.png"]
    assert read(path).infotext == text


def test_names_are_not_taken_from_others(tmp_path):
    (tmp_path / "one.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        one().save(tmp_path / "one.png", replace=False)
    assert (tmp_path / "one.png").read_bytes() == b"mine"
    assert names(tmp_path) == ["one.png"]
    one().save(tmp_path / "one.png")
    assert read(tmp_path / "one.png").infotext == TEXT


STEPS = tuple(gradient(64, 48).rotate(angle) for angle in (90, 180, 270))


def test_a_strip_of_steps(tmp_path):
    path = one(steps=STEPS).save(tmp_path / "one.png")
    assert names(tmp_path) == ["one-steps.png", "one.png"]
    with Image.open(tmp_path / "one-steps.png") as image:
        assert image.size == (4 * 64, 48)
        assert image.crop((3 * 64, 0, 4 * 64, 48)).tobytes() == gradient(64, 48).tobytes()
    assert read(tmp_path / "one-steps.png").infotext == read(path).infotext == TEXT


def test_an_animation_of_steps(tmp_path):
    one(steps=STEPS, animated=True).save(tmp_path / "one.jpg")
    (name,) = (name for name in names(tmp_path) if "steps" in name)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 4
        assert image.size == (64, 48)


@pytest.mark.parametrize("animated", [False, True])
def test_steps_of_two_sizes(tmp_path, animated):
    """Hires fix: the first pass is smaller than the picture."""
    small = tuple(step.resize((32, 24)) for step in STEPS)
    one(steps=small + STEPS, animated=animated).save(tmp_path / "one.png")
    (name,) = (name for name in names(tmp_path) if "steps" in name)
    with Image.open(tmp_path / name) as image:
        frames = getattr(image, "n_frames", 1)
        assert (frames, image.size) == ((7, (64, 48)) if animated else (1, (7 * 64, 48)))


class TestFullDisk:
    @pytest.fixture(params=[0, 1])
    def full(self, request, monkeypatch):
        """The disk is full at the first or second file."""
        left = request.param
        real = builtins.open

        class Full:
            def __init__(self, file):
                self._file = file

            def __getattr__(self, name):
                return getattr(self._file, name)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                self._file.close()

            def write(self, data):
                nonlocal left
                left -= 1
                if left < 0:
                    self._file.write(data[: len(data) // 2])
                    raise OSError(errno.ENOSPC, "No space left on device")
                return self._file.write(data)

        def opened(path, mode="r", *args, **more):
            file = real(path, mode, *args, **more)
            return Full(file) if "x" in mode else file

        monkeypatch.setattr(builtins, "open", opened)
        return request.param

    def test_nothing_half_is_left(self, full, tmp_path):
        (tmp_path / "one.png").write_bytes(b"old")
        with pytest.raises(DiskFull) as caught:
            one(steps=STEPS).save(tmp_path / "one.png")
        assert str(tmp_path) in caught.value.advice
        assert names(tmp_path) == ["one.png"]
        content = (tmp_path / "one.png").read_bytes()
        # The picture comes first: it is the one that counts.
        assert (content == b"old") is (full == 0)


def test_the_record_survives(tmp_path):
    record = {"schema": 1, "kind": "txt2img", "index": 0, "request": {"prompt": "ünï \U0001f3a8"}}
    path = one(record=record).save(tmp_path / "one.png")
    assert json.loads(json.dumps(dict(read(path).record or {}))) == record
