"""Every check of the project: linter, formatter, types, tests. Run it as `python launch.py test [ARGS]`.

Arguments that are not named here go to pytest:

    --slow             also the tests at real sizes
    --slow-minutes N   start no further slow test after N minutes
    --only-lint        linter, formatter and types only
    --no-lint          tests only
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINTERS = (("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",))


def lint() -> list[str]:
    """Run every linter; the names of those that complained."""
    failed = []
    for linter in LINTERS:
        print("$", *linter, flush=True)
        if subprocess.run([sys.executable, "-m", *linter], cwd=ROOT).returncode:
            failed.append(" ".join(linter))
    return failed


def run_tests(arguments: list[str]) -> int:
    """Run pytest, on all cores unless told otherwise; its exit code."""
    if not any(word.startswith(("-n", "--numprocesses", "-p", "--pdb")) for word in arguments):
        arguments = ["-n", "auto", "--dist", "loadgroup", *arguments]
    # The processes share the cores: one thread each keeps them from getting in each other's way.
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environment).returncode


def main(arguments: list[str]) -> int:
    """Run what was asked for; non-zero if anything complained."""
    rest = [word for word in arguments if word not in ("--only-lint", "--no-lint")]
    failed = [] if "--no-lint" in arguments else lint()
    if failed:
        print("Failed:", ", ".join(failed), flush=True)
    if "--only-lint" in arguments:
        return 1 if failed else 0
    return run_tests(rest) or (1 if failed else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
