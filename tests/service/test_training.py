"""Training by name: recipes and stages are found, what they build on is found, mistakes come before the work."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfumato.errors import InvalidRequest, NotFound, OutOfMemory
from sfumato.service.folders import Folders
from sfumato.service.training import find_recipes, find_start, open_recipe, train
from sfumato.train import memory

VAE = """
name = "{name}"
target = "autoencoder"
architecture = "nano"
{more}
[data]
mix = "nano"
size = 32
pictograms = false
workers = 0
[loop]
steps = 2
batch = 2
log_every = 1
"""


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    below = tmp_path / "recipes" / "small"
    below.mkdir(parents=True)
    (below / "one.toml").write_text(VAE.format(name="small-one", more=""))
    (below / "two.toml").write_text(VAE.format(name="small-two", more='start = "small-one"'))
    (below / "stages.txt").write_text("one\ntwo\n")
    return Folders.under(tmp_path)


def test_recipes_by_name_path_and_folder(folders: Folders) -> None:
    below = folders.data / "recipes" / "small"
    assert find_recipes("small/one", folders) == (below / "one.toml",)
    assert find_recipes(str(below / "two.toml"), folders) == (below / "two.toml",)
    assert find_recipes("small", folders) == (below / "one.toml", below / "two.toml")
    with pytest.raises(NotFound, match=r"There are: small, small/one, small/two"):
        find_recipes("smal/one", folders)


def test_what_a_recipe_builds_on(folders: Folders) -> None:
    runs = folders.outputs / "training"
    assert find_start(None, runs) is None
    with pytest.raises(NotFound, match=r"'small-one', which is neither a file nor a finished run") as caught:
        open_recipe(find_recipes("small/two", folders)[0], {}, runs)
    assert "small-one.safetensors" in caught.value.advice


def test_stages_are_run_in_order_and_passed_over_when_done(folders: Folders) -> None:
    stages = [(report.name, report.step) for report in train("small", folders, device="cpu")]
    assert stages == [("small-one", 1), ("small-one", 2), ("small-two", 1), ("small-two", 2)]
    assert (folders.outputs / "training" / "small-two" / "small-two.safetensors").is_file()
    assert list(train("small", folders, device="cpu")) == []


def test_a_stop_ends_the_chain(folders: Folders, tmp_path: Path) -> None:
    reports = list(train("small", folders, device="cpu", folder=tmp_path / "here", stop=lambda: True))
    assert [(report.name, report.step) for report in reports] == [("small-one", 1)]
    assert not (tmp_path / "here" / "small-two").exists()


def test_a_mistake_in_the_last_stage_comes_before_the_first(folders: Folders) -> None:
    path = folders.data / "recipes" / "small" / "two.toml"
    path.write_text(path.read_text() + "stepps = 3\n")
    with pytest.raises(InvalidRequest, match=r"did you mean 'loop.steps'"):
        next(train("small", folders, device="cpu"))
    assert not (folders.outputs / "training").exists()


def test_a_run_that_does_not_fit_is_refused(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small:
        available = 3_000_000

    monkeypatch.setattr(memory.psutil, "virtual_memory", Small)
    with pytest.raises(OutOfMemory, match=r"needs about \d+ MiB and 2 MiB are free"):
        next(train("small/one", folders, device="cpu"))
    Small.available = 12_000_000
    with pytest.raises(OutOfMemory) as caught:
        next(train("small/one", folders, device="cpu", changes={"loop.batch": "64"}))
    assert "loop.accumulate" in caught.value.advice
    assert not (folders.outputs / "training").exists()


def test_a_folder_of_pictures_is_checked_before_training(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidRequest, match="no pictures"):
        next(train("small/one", folders, device="cpu", changes={"data.folder": str(tmp_path / "empty")}))
    assert not (folders.outputs / "training").exists()
