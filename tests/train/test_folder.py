"""Folders of pictures: what is wrong with one is found before training, named, with advice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from sfumato.errors import CorruptFile, InvalidRequest, NotFound
from sfumato.train.folder import FolderSource, examples_in


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 20), "red").save(tmp_path / "a.png")
    Image.new("RGBA", (16, 16), (0, 0, 255, 0)).save(tmp_path / "002-see_through thing.png")
    Image.new("L", (8, 30), 255).save(tmp_path / "c.jpg")
    (tmp_path / "a.txt").write_text("  a red\npicture ", encoding="utf-8")
    return tmp_path


def test_samples(folder: Path) -> None:
    assert [example.caption for example in examples_in(folder)] == ["see through thing", "a red picture", "c"]
    source = FolderSource(folder, 16, seed=1)
    batch = source.batch(range(6))
    assert batch.pixels.shape == (6, 3, 16, 16)
    assert sorted(batch.captions[:3]) == sorted(batch.captions[3:]) == ["a red picture", "c", "see through thing"]
    assert batch.captions == source.captions(range(6))
    red = batch.pixels[batch.captions.index("a red picture")]
    assert red[:, 8, 8].tolist() == [1.0, -1.0, -1.0]
    assert batch.pixels[batch.captions.index("see through thing")].min() == 1.0, "what is transparent becomes white"
    assert torch.equal(source.batch([4]).pixels[0], batch.pixels[4]), "a sample does not depend on its batch"


def test_each_round_is_shuffled_anew(tmp_path: Path) -> None:
    for number in range(8):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{chr(97 + number)}.png")
    source = FolderSource(tmp_path, 16, seed=1)
    rounds = [source.captions(range(start, start + 8)) for start in (0, 8, 16)]
    assert len(set(rounds)) == 3
    assert {frozenset(some) for some in rounds} == {frozenset("abcdefgh")}


def test_no_folder_and_no_pictures(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no folder"):
        examples_in(tmp_path / "none")
    with pytest.raises(InvalidRequest, match="no pictures"):
        examples_in(tmp_path)
    (tmp_path / "notes.md").write_text("hello")
    with pytest.raises(InvalidRequest, match="1 other files") as caught:
        examples_in(tmp_path)
    assert ".png" in caught.value.advice


def test_unreadable_pictures_are_named(folder: Path) -> None:
    (folder / "d.png").write_bytes((folder / "a.png").read_bytes()[:60])
    (folder / "e.jpg").write_bytes(b"not a picture")
    (folder / "f.webp").write_bytes(b"")
    with pytest.raises(CorruptFile, match=r"3 pictures \(d\.png, e\.jpg, f\.webp\) cannot be read") as caught:
        examples_in(folder)
    assert "remove them" in caught.value.advice


def test_captions_without_pictures_are_named(folder: Path) -> None:
    for number in range(7):
        (folder / f"x{number}.txt").write_text("words")
    with pytest.raises(InvalidRequest, match=r"7 captions have \(x0\.txt, .* and 2 more\) no picture"):
        examples_in(folder)


def test_a_caption_in_another_encoding_is_named(folder: Path) -> None:
    (folder / "a.txt").write_bytes("grün".encode("latin-1"))
    with pytest.raises(CorruptFile, match=r"a\.txt is not UTF-8"):
        examples_in(folder)
