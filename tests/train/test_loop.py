"""The loop: goes on to the bit after any end, keeps the last good state, and stops when it must."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tests.train.toy import Line, Noise, toy_recipe

from sfumato.engine.checkpoint.safetensors import read_safetensors
from sfumato.errors import CorruptFile, DiskFull, InvalidRequest, NotANumber
from sfumato.train import state as state_module
from sfumato.train.loop import Run
from sfumato.train.report import Progress

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, line: Line | None = None, **loop: object) -> Run:
    return Run(toy_recipe(**loop), line or Line(), Noise(), folder)


def train(folder: Path, **loop: object) -> list[Progress]:
    return list(run(folder, **loop).train())


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    table = read_safetensors(folder / "state.safetensors")
    return {name: table[name].read() for name in table}


def assert_same_state(a: Path, b: Path) -> None:
    left, right = tensors(a), tensors(b)
    assert left.keys() == right.keys()
    assert {key.partition(":")[0] for key in left} == {"weight", "optimizer", "average", "random"}
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert different == []


def steps(folder: Path) -> list[int]:
    with (folder / "log.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def test_learns_and_reports(whole: Path, tmp_path: Path) -> None:
    reports = train(tmp_path, steps=60)
    assert reports[-1].loss < 0.5 * reports[0].loss
    assert reports[0].rate == pytest.approx(0.01 / 3)
    assert [report.step for report in reports] == list(range(1, 61))
    assert steps(whole) == list(range(1, 13))
    assert (whole / "toy.safetensors").is_file()
    assert list((whole / "sheets").iterdir()) == [whole / "sheets" / "0000012.png"]
    assert (whole / "figures.csv").read_text().startswith("step,slope\n12,")


@pytest.mark.parametrize("at", [1, 6, 7])
def test_goes_on_to_the_bit_after_a_stop(whole: Path, tmp_path: Path, at: int) -> None:
    first = run(tmp_path)
    list(first.train(stop=lambda: first.state.step == at))
    assert steps(tmp_path) == list(range(1, at + 1))
    torch.manual_seed(at)  # what else a process draws does not matter
    second = run(tmp_path)
    assert second.resumed
    list(second.train())
    assert_same_state(whole, tmp_path)
    assert steps(tmp_path) == list(range(1, 13))


def test_closing_the_iterator_keeps_the_state(whole: Path, tmp_path: Path) -> None:
    reports = run(tmp_path).train()
    for report in reports:
        if report.step == 5:
            break
    reports.close()
    assert run(tmp_path).state.step == 5
    train(tmp_path)
    assert_same_state(whole, tmp_path)


KILLED = """
import sys
from pathlib import Path
from tests.train.test_loop import run
for report in run(Path(sys.argv[1])).train():
    if report.step == 7:
        print("now", flush=True)
        sys.stdin.read()
"""


def test_goes_on_to_the_bit_after_kill_9(whole: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"now\n"
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    again = run(tmp_path)
    assert again.state.step == 6, "never more than the last interval is lost"
    list(again.train())
    assert_same_state(whole, tmp_path)
    assert steps(tmp_path) == list(range(1, 13))


def test_workers_change_nothing(whole: Path, tmp_path: Path) -> None:
    recipe = toy_recipe()
    ahead = recipe.model_copy(update={"data": recipe.data.model_copy(update={"workers": 2})})
    list(Run(ahead, Line(), Noise(), tmp_path).train())
    assert_same_state(whole, tmp_path)


def test_minutes_end_a_call_and_not_the_run(tmp_path: Path) -> None:
    assert len(train(tmp_path, minutes=1e-6)) == 1
    assert not (tmp_path / "toy.safetensors").exists()
    assert run(tmp_path).state.step == 1


def test_a_finished_run_is_left_alone(whole: Path) -> None:
    before = (whole / "state.safetensors").read_bytes()
    assert run(whole).finished
    assert train(whole) == []
    assert (whole / "state.safetensors").read_bytes() == before


def test_result_and_sheet_are_made_with_averaged_weights(tmp_path: Path) -> None:
    line = Line()
    made = run(tmp_path, line)
    list(made.train())
    assert made.state.average is not None
    assert torch.equal(line.saved[0], made.state.average.shadow["first"])
    assert not torch.equal(line.saved[0], line.first)


def test_a_number_that_is_none_stops_and_keeps_the_last_state(tmp_path: Path) -> None:
    line = Line(fail_at=8 * 8 + 1)  # in the ninth update
    made = run(tmp_path, line)
    with pytest.raises(NotANumber, match=r"update 9.*the gradient of 'first' is not finite") as caught:
        list(made.train())
    assert "learning rate" in caught.value.advice
    assert all(torch.isfinite(weight).all() for weight in line.weights.values())
    assert run(tmp_path).state.step == 8


def test_a_full_disk_keeps_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = run(tmp_path)
    reports = made.train()
    while next(reports).step < 3:
        pass
    write = state_module.write_safetensors

    def full(path: Path, *_: object, **__: object) -> None:
        path.with_suffix(".part").write_bytes(b"half")
        path.with_suffix(".part").unlink()
        raise DiskFull(f"There is no room left to write {path.name}.")

    monkeypatch.setattr(state_module, "write_safetensors", full)
    with pytest.raises(DiskFull):
        list(reports)
    monkeypatch.setattr(state_module, "write_safetensors", write)
    assert run(tmp_path).state.step == 2


def test_a_damaged_state_falls_back_to_the_one_before(whole: Path, tmp_path: Path) -> None:
    first = run(tmp_path)
    list(first.train(stop=lambda: first.state.step == 7))
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert run(tmp_path).state.step == 6
    train(tmp_path)
    assert_same_state(whole, tmp_path)
    path.write_bytes(b"nothing")
    (tmp_path / "state.previous.safetensors").write_bytes(b"nothing")
    with pytest.raises(CorruptFile):
        run(tmp_path)


def test_another_recipe_is_refused_and_a_longer_one_is_not(whole: Path, tmp_path: Path) -> None:
    first = run(tmp_path)
    list(first.train(stop=lambda: first.state.step == 2))
    other = toy_recipe().model_copy(update={"seed": 5})
    with pytest.raises(InvalidRequest, match="seed was 0 and is 5"):
        Run(other, Line(), Noise(), tmp_path)
    assert train(tmp_path, steps=14)[-1].step == 14


def test_nothing_to_train_is_an_error(tmp_path: Path) -> None:
    class Nothing(Line):
        weights = {}  # type: ignore[assignment]  # noqa: RUF012

    with pytest.raises(InvalidRequest, match="nothing to train"):
        Run(toy_recipe(), Nothing(), Noise(), tmp_path)


def test_speed_counts_every_sample(tmp_path: Path) -> None:
    began = time.perf_counter()
    reports = train(tmp_path, steps=3)
    longest = time.perf_counter() - began
    assert reports[-1].images_per_second > 8 / longest
    assert 0 < reports[-1].seconds <= longest
