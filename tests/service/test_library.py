"""Models are found by any of their names, and what is no model is not."""

import time

import pytest
from tests.tiny import SD1, random_model

from sfumato.engine.checkpoint.hashes import HashCache, legacy_hash, sha256
from sfumato.engine.checkpoint.save import save
from sfumato.errors import NotFound
from sfumato.service.folders import Folders, default_data_dir
from sfumato.service.library import Library


@pytest.fixture
def library(place):
    folders = Folders.under(place)
    cache = HashCache(folders.cache / "hashes.json")
    return Library(folders, cache.known), cache


def own(library, kind="checkpoint"):
    """The entries from the folders; the starter model, where there is one, is always there too."""
    return [entry for entry in library.entries(kind) if library.folders.models in entry.path.parents]


def test_by_all_of_its_names(library):
    library, cache = library
    path = library.folders.checkpoints / "beta.safetensors"
    digest = cache.get(path)
    assert digest == sha256(path)
    for wanted in (
        "beta",
        "BETA",
        "beta.safetensors",
        f"beta.safetensors [{digest[:10]}]",
        "bet",
        digest[:10],
        digest[:8],
        digest,
        digest.upper(),
        legacy_hash(path),
        str(path),
    ):
        found = library.find(wanted)
        assert found.path == path, wanted
    assert found.short_hash == digest[:10]
    assert library.find("").name == "alpha"


def test_subfolders(library):
    library, _ = library
    inside = library.folders.checkpoints / "anime" / "old"
    inside.mkdir(parents=True)
    (library.folders.checkpoints / "alpha.safetensors").rename(inside / "alpha.safetensors")
    assert [entry.title for entry in own(library)] == ["anime/old/alpha.safetensors", "beta.safetensors"]
    assert library.find("anime/old/alpha.safetensors") == library.find("alpha")


def test_the_best_match_wins(library):
    library, _ = library
    for name in ("al", "alphabet", "my alpha"):
        (library.folders.checkpoints / f"{name}.safetensors").write_bytes(b"x")
    assert library.find("alpha").name == "alpha"
    assert library.find("al").name == "al"
    assert library.find("my").name == "my alpha"
    # Of those that hold the text, the shortest.
    assert library.find("alphab").name == "alphabet"


@pytest.mark.parametrize(
    "wanted", ["gamma", "deadbeef00", "no/such/file.safetensors", "x" * 1000, "[", "*", "..", "\0", "~nobody/x"]
)
def test_what_is_not_there(library, wanted):
    library, _ = library
    with pytest.raises(NotFound) as caught:
        library.find(wanted)
    assert "alpha" in caught.value.advice
    assert len(str(caught.value)) < 1000


def test_an_empty_installation(tmp_path, monkeypatch):
    monkeypatch.setattr("sfumato.service.library.STARTER", tmp_path / "none")
    library = Library(Folders.under(tmp_path))
    assert library.entries() == ()
    with pytest.raises(NotFound, match="no checkpoint yet") as caught:
        library.find("")
    assert "Stable-diffusion" in caught.value.advice


def test_the_starter_comes_last(library, tmp_path, monkeypatch, shelf):
    library, _ = library
    monkeypatch.setattr("sfumato.service.library.STARTER", shelf)
    assert library.entries()[-1].path.parent == shelf
    assert library.find("").name == "alpha"


def test_the_vae_beside(library, put):
    library, _ = library
    checkpoint = library.folders.checkpoints / "alpha.safetensors"
    assert library.vae_beside(checkpoint) is None
    third = put("other.vae.safetensors", "VAE", "alpha.safetensors")
    assert library.vae_beside(checkpoint) == third
    second = put("other.vae.safetensors", "VAE", "alpha.vae.safetensors")
    assert library.vae_beside(checkpoint) == second
    first = put("other.vae.safetensors", "Stable-diffusion", "alpha.vae.safetensors")
    assert library.vae_beside(checkpoint) == first
    assert library.vae_beside(library.folders.checkpoints / "beta.safetensors") is None
    # A VAE among the checkpoints is no checkpoint.
    assert [entry.name for entry in own(library)] == ["alpha", "beta"]
    assert {entry.path for entry in own(library, "vae")} == {first, second, third}
    assert library.find("alpha.vae", "vae").path in (first, second)


def test_folders_of_diffusers(library):
    library, _ = library
    folder = library.folders.checkpoints / "sub" / "portrait"
    save(random_model(SD1, 3), folder, layout="diffusers")
    assert [entry.title for entry in own(library)] == ["alpha.safetensors", "beta.safetensors", "sub/portrait"]
    entry = library.find("portrait")
    assert (entry.path, entry.size, entry.short_hash) == (folder, 0, "")
    assert library.find(str(folder)).path == folder


def test_a_folder_of_the_same_name_is_not_in_the_way(library, tmp_path, monkeypatch):
    library, _ = library
    (tmp_path / "alpha").mkdir()
    monkeypatch.chdir(tmp_path)
    assert library.find("alpha").path == library.folders.checkpoints / "alpha.safetensors"


def test_other_files_are_left_alone(library):
    library, _ = library
    for name in ("readme.md", "alpha.png", "alpha.safetensors.part", "alpha.yaml", ".hidden", "notes.json"):
        (library.folders.checkpoints / name).write_bytes(b"x")
    (library.folders.checkpoints / "folder.safetensors").mkdir()
    assert [entry.name for entry in own(library)] == ["alpha", "beta"]


def test_hundreds_of_files(library):
    library, cache = library
    for number in range(600):
        folder = library.folders.checkpoints / f"set {number % 20}"
        folder.mkdir(exist_ok=True)
        (folder / f"model {number}.safetensors").write_bytes(b"x")
    cache.get(library.folders.checkpoints / "alpha.safetensors")
    begun = time.perf_counter()
    assert len(own(library)) == 602
    assert library.find("model 599").title == "set 19/model 599.safetensors"
    assert time.perf_counter() - begun < 2


def test_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("SFUMATO_DATA_DIR", str(tmp_path / "data"))
    assert default_data_dir() == tmp_path / "data"
    folders = Folders.under(None, tmp_path / "models")
    assert folders.outputs == tmp_path / "data" / "outputs"
    assert folders.checkpoints == tmp_path / "models" / "Stable-diffusion"
