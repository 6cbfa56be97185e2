"""Measures what a block of code costs, so that tests can hold it to a bound."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
MIB = 1 << 20


def memory(field: str) -> int:
    """VmRSS (now) or VmHWM (highest) of this process in bytes; 0 where the system does not tell."""
    if not STATUS.exists():
        return 0
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


@contextmanager
def bounded(*, seconds: float, mebibytes: int) -> Iterator[None]:
    """Fail where the block takes more of the processor, or more memory than before it by more than that."""
    if RESET.exists():
        RESET.write_text("5")  # forget the highest value so far
    before, began = memory("VmRSS"), time.process_time()
    yield
    took, grown = time.process_time() - began, memory("VmHWM") - before
    assert took < seconds, f"took {took:.2f} s"
    assert grown < mebibytes * MIB, f"took {grown / MIB:.0f} MiB"
