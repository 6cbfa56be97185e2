"""Recipes: what is wrong with one is found and named before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfumato.errors import CorruptFile, InvalidRequest, NotFound
from sfumato.train.rates import Course, last_update, parse_rates, rate_at
from sfumato.train.recipe import Recipe, read_recipe, recipe_from

ROOT = Path(__file__).resolve().parents[2]
LEAST = {"name": "a", "target": "autoencoder"}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").rglob("*.toml")), ids=lambda path: path.stem)
def test_recipes_that_come_along_are_valid(path: Path) -> None:
    recipe = read_recipe(path)
    assert read_recipe(path, {"loop.steps": "7", "name": "other"}).loop.steps == 7
    assert recipe.name.startswith(path.parent.name)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({**LEAST, "loop": {"step": 5}}, "no 'loop.step'; did you mean 'loop.steps'?"),
        ({**LEAST, "optimiser": {}}, "no 'optimiser'; did you mean 'optimizer'?"),
        ({**LEAST, "optimizer": {"rat": 1}}, "did you mean 'optimizer.rate'?"),
        ({**LEAST, "data": {"zzz": 1}}, "no 'data.zzz'; known here: folder, mix"),
        ({"name": "a"}, "lacks 'target'"),
        ({**LEAST, "loop": {"steps": 0}}, "loop.steps"),
        ({**LEAST, "loop": {"batch": "many"}}, "loop.batch"),
        ({**LEAST, "data": {"size": 100}}, "data.size"),
        ({**LEAST, "optimizer": {"rate": "1e-4:x"}}, "learning rate '1e-4:x' makes no sense"),
        ({**LEAST, "optimizer": {"schedule": "cosin"}}, "cosine"),
        ({**LEAST, "name": "../up"}, "name"),
        ({**LEAST, "loop": 5}, "loop"),
    ],
)
def test_mistakes_are_named(tables: dict[str, object], message: str) -> None:
    with pytest.raises((InvalidRequest, NotFound)) as caught:
        recipe_from(tables)
    assert message in str(caught.value)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no recipe"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = 'a'\ntarget = ?\n")
    with pytest.raises(CorruptFile, match="line 2"):
        read_recipe(tmp_path / "bad.toml")


def test_changes_replace_values(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('name = "a"\ntarget = "vae"\n[loop]\nsteps = 5\n')
    recipe = read_recipe(tmp_path / "a.toml", {"loop.steps": "9", "optimizer.rate": "1e-3:5, 1e-4", "data.size": "[64, 128]"})
    assert (recipe.loop.steps, recipe.optimizer.rate, recipe.data.size) == (9, "1e-3:5, 1e-4", (64, 128))
    with pytest.raises(InvalidRequest, match=r"did you mean 'loop.steps'"):
        read_recipe(tmp_path / "a.toml", {"loop.stepps": "9"})


def test_a_recipe_survives_its_own_json() -> None:
    recipe = recipe_from({**LEAST, "data": {"size": [64, 128], "crop": 64}})
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_rates_of_a1111() -> None:
    pieces = parse_rates("0.005:100, 1e-3:1000, 1e-5")
    course = Course(5000)
    rates = [rate_at(step, pieces, "constant", course) for step in (0, 99, 100, 999, 1000, 4999)]
    assert rates == [0.005, 0.005, 1e-3, 1e-3, 1e-5, 1e-5]
    assert last_update(pieces, 5000) == 5000
    assert last_update(parse_rates("0.005:100, 1e-3:1000"), 5000) == 1000, "training ends with the list"
    assert last_update(parse_rates("0.005:-1"), 5000) == 5000


@pytest.mark.parametrize(
    "text", ["", "x", "1e-4:5, 1e-4:5", "1e-4:9, 1e-5:3", "-1", "nan", "inf", "1e-3, 1e-4", "1:2:3", "1e-4:-5"]
)
def test_rates_that_make_no_sense(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_rates(text)


def test_long_rates_are_read_quickly() -> None:
    parse_rates(", ".join(f"1e-4:{step}" for step in range(1, 500)))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("constant", [1.0, 1.0, 1.0]),
        ("linear", [1.0, 0.55, 0.1]),
        ("cosine", [1.0, 0.55, 0.1]),
        ("polynomial", [1.0, 0.325, 0.1]),
        ("stable then decay", [1.0, 1.0, 0.1]),
        ("cosine with restarts", [1.0, 1.0, 0.1]),
    ],
)
def test_schedules(shape: str, expected: list[float]) -> None:
    course = Course(steps=110, warmup=10, final=0.1, cycles=2)
    rates = [rate_at(step, parse_rates("2"), shape, course) / 2 for step in (10, 60, 110)]
    assert rates == pytest.approx(expected)
    assert rate_at(4, parse_rates("2"), shape, course) <= 1.0, "the warm-up rises from zero"
    assert rate_at(0, parse_rates("2"), shape, course) == pytest.approx(0.2 * expected[0])
