"""One registry type for samplers, schedules, upscalers, network kinds, train targets and everything else with a name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from sfumato.errors import NotFound

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Named things in the order they were added, with aliases and helpful misses.

    Lookup ignores case; iteration gives display names only, aliases excluded.

    Args:
        kind: what the things are, for messages: "sampler", "scheduler", ...
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}
        self._names: dict[str, str] = {}

    def add(self, name: str, item: T, *aliases: str) -> T:
        """Register `item` under `name` and `aliases`; a name taken already is a programming error (ValueError)."""
        for key in (name, *aliases):
            if self._names.get(key.casefold(), name) != name:
                raise ValueError(f"{self.kind} {key!r} is registered twice")
        self._items[name] = item
        for key in (name, *aliases):
            self._names[key.casefold()] = name
        return item

    def resolve(self, name: str) -> str:
        """The display name that `name`, in any case or as an alias, stands for.

        Raises:
            NotFound: naming the nearest known names.
        """
        found = self._names.get(name.casefold())
        if found is None:
            near = difflib.get_close_matches(name.casefold()[:100], list(self._names), n=3, cutoff=0.5)
            meant = " or ".join(dict.fromkeys(self._names[key] for key in near))
            advice = f"Did you mean {meant}?" if meant else f"There are: {', '.join(list(self._items)[:30])}."
            raise NotFound(f"There is no {self.kind} named {name[:100]!r}.", advice=advice)
        return found

    def aliases(self, name: str) -> tuple[str, ...]:
        """The other names under which `name` is found, in lower case."""
        display = self.resolve(name)
        return tuple(key for key, value in self._names.items() if value == display and key != display.casefold())

    def __getitem__(self, name: str) -> T:
        return self._items[self.resolve(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.casefold() in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
