"""Settings of the process, tried in processes of their own."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import torch, psutil
from sfumato.engine.process import keep_freed_memory, prepare_process, release_memory
prepare_process(%s)
rss = lambda: psutil.Process().memory_info().rss
kept = keep_freed_memory()
x = torch.ones(50_000_000)
high = rss()
del x
after = rss()
release_memory()
print(torch.get_num_threads(), kept, high - after < 50e6, after - rss() > 150e6)
"""


def run(threads: str, **env: str) -> list[str]:
    command = [sys.executable, "-c", SCRIPT % threads]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **env})
    return done.stdout.split()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_kept_until_released() -> None:
    assert run("3") == ["3", "True", "True", "True"]


def test_the_environment_decides_about_threads() -> None:
    assert run("None", OMP_NUM_THREADS="1")[0] == "1"
