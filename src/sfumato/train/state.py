"""The whole state of a run in one file, so that a run can go on to the bit."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sfumato.engine.checkpoint.safetensors import read_safetensors
from sfumato.engine.checkpoint.table import GivenTensor
from sfumato.engine.checkpoint.writer import write_safetensors
from sfumato.errors import CorruptFile, InvalidRequest, NotFound
from sfumato.train.average import Average
from sfumato.train.recipe import Recipe

FREE_TO_CHANGE: frozenset[str] = frozenset(
    {
        *(f"loop.{name}" for name in ("steps", "batch", "accumulate", "minutes", "threads")),
        *(f"loop.{name}" for name in ("save_every", "sheet_every", "log_every")),
        *(f"optimizer.{name}" for name in ("rate", "schedule", "warmup", "final", "cycles", "clip")),
        "data.workers",
        "sheet",
    }
)
"""What may differ between a run and its continuation: how long and how fast it learns, not what."""


@dataclass
class State:
    """Everything that changes while training.

    Attributes:
        step: updates made.
        samples: seen by all processes; the next one has this number.
        seconds: spent training, over all calls.
    """

    recipe: Recipe
    weights: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    average: Average | None
    step: int = 0
    samples: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write the state; the old one is replaced in one step, or stays. The one before is kept as well.

        Raises:
            DiskFull, NotFound: the file cannot be written.
        """
        tensors: dict[str, Tensor] = {f"weight:{name}": weight.detach() for name, weight in self.weights.items()}
        for name, weight in self.weights.items():
            tensors |= {f"optimizer:{key}:{name}": value for key, value in self.optimizer.state.get(weight, {}).items()}
        if self.average:
            tensors |= {f"average:{name}": value for name, value in self.average.shadow.items()}
        tensors["random:cpu"] = torch.get_rng_state()
        if torch.cuda.is_available():
            tensors["random:cuda"] = torch.cuda.get_rng_state()
        counters = {
            "step": self.step,
            "samples": self.samples,
            "seconds": self.seconds,
            "averaged": self.average.updates if self.average else 0,
            "recipe": self.recipe.model_dump(mode="json"),
        }
        keep_previous(path)
        write_safetensors(
            path,
            {name: GivenTensor(value.contiguous()) for name, value in tensors.items()},
            metadata={"sfumato.training": json.dumps(counters)},
        )

    def resume(self, path: Path) -> bool:
        """Go on from `path`, or from the state before it where that file is damaged; False where there is neither.

        Raises:
            CorruptFile: both are damaged.
            InvalidRequest: it was made with another recipe; the differences are named.
        """
        before = previous_of(path)
        if not path.is_file() and not before.is_file():
            return False
        try:
            self.restore(path)
        except (CorruptFile, NotFound):
            if not before.is_file():
                raise
            self.restore(before)
        return True

    @torch.no_grad()
    def restore(self, path: Path) -> None:
        """Go on where a saved state ends.

        Raises:
            CorruptFile: the file is no state of such a run.
            InvalidRequest: it was made with another recipe; the differences are named.
        """
        table = read_safetensors(path)
        try:
            counters = json.loads(table.metadata["sfumato.training"])
            # A value that the recipe did not have yet when the state was made counts as its default.
            before = Recipe.model_validate(counters["recipe"]).model_dump(mode="json")
            check_same(before, self.recipe.model_dump(mode="json"), path)
            for name, weight in self.weights.items():
                weight.copy_(table[f"weight:{name}"].read())
            if self.average:
                self.average.updates = counters["averaged"]
                for name, value in self.average.shadow.items():
                    value.copy_(table[f"average:{name}"].read())
            self._restore_optimizer({name: table[name].read() for name in table if name.startswith("optimizer:")})
            torch.set_rng_state(table["random:cpu"].read())
            if torch.cuda.is_available() and "random:cuda" in table:
                torch.cuda.set_rng_state(table["random:cuda"].read())
            self.step, self.samples, self.seconds = counters["step"], counters["samples"], counters["seconds"]
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CorruptFile(f"{path} is not the state of this run.", advice="Delete it to start anew.") from error

    def _restore_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        order = [id(weight) for group in self.optimizer.param_groups for weight in group["params"]]
        numbers = {name: order.index(id(weight)) for name, weight in self.weights.items()}
        entries: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            _, field, name = key.split(":", 2)
            weight = self.weights[name]
            # Optimisers go through memory in order: what belongs to a weight must lie as the weight does.
            alike = torch.empty_like(weight, dtype=value.dtype).copy_(value) if value.shape == weight.shape else value
            entries.setdefault(numbers[name], {})[field] = alike
        self.optimizer.load_state_dict({"state": entries, "param_groups": self.optimizer.state_dict()["param_groups"]})


def previous_of(path: Path) -> Path:
    """Where the state before the last one is kept."""
    return path.with_suffix(f".previous{path.suffix}")


def keep_previous(path: Path) -> None:
    """Give the present state a second name, so that it outlives its replacement."""
    if not path.is_file():
        return
    before = previous_of(path)
    before.unlink(missing_ok=True)
    try:
        os.link(path, before)
    except OSError:  # a file system without hard links keeps one state only
        return


def check_same(before: object, now: object, path: Path) -> None:
    """Compare the recipe of a state with the one that is to go on.

    Raises:
        InvalidRequest: they differ in what is learned.
    """
    old, new = _flat(before), _flat(now)
    changed = [
        f"{name} was {old.get(name)} and is {new.get(name)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name) and not any(name == f or name.startswith(f"{f}.") for f in FREE_TO_CHANGE)
    ]
    if changed:
        raise InvalidRequest(
            f"{path} was made with another recipe: {'; '.join(changed[:5])}.",
            advice="Put the recipe back as it was, or choose another name for the new run.",
        )


def _flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {name: value}
    found: dict[str, object] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{name}.{key}" if name else key)
    return found
