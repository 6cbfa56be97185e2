"""What holds for every test: the slow ones run only when asked for, and one after the other."""

from __future__ import annotations

import time

import pytest

BEGAN = pytest.StashKey[float]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--slow` and its bound."""
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption("--slow-minutes", type=float, metavar="N", help="start no further slow test after N minutes")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the slow tests out, or give them all to one worker: two of them at once would not fit into the memory."""
    slow = [item for item in items if item.get_closest_marker("slow")]
    if not config.getoption("--slow"):
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    for item in slow:
        item.add_marker(pytest.mark.xdist_group("slow"))


def pytest_configure(config: pytest.Config) -> None:
    """Remember when the run began."""
    config.stash[BEGAN] = time.monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep to the bound of `--slow-minutes`; what it leaves out is reported as skipped."""
    minutes = item.config.getoption("--slow-minutes")
    if minutes is not None and item.get_closest_marker("slow") and time.monotonic() - item.config.stash[BEGAN] > 60 * minutes:
        pytest.skip(f"the {minutes:g} minutes given to slow tests are over")
