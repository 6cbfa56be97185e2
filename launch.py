"""Set up Sfumato and start it: `python launch.py ARGS`, with Python >= 3.11 and nothing else.

The first start makes a virtual environment and installs the locked packages into it; every later start compares one
small file and hands over to `python -m sfumato ARGS`. Nothing is fetched with git, and no start after the first one
needs the network. `python launch.py test [ARGS]` runs every check of the project instead.

Environment variables, as AUTOMATIC1111's users know them:

    COMMANDLINE_ARGS   arguments appended to those given here
    PYTHON             the interpreter to make the virtual environment with
    VENV_DIR           where the virtual environment lies (default `.venv`); `-` uses the running Python as it is
    TORCH_COMMAND      how to install torch, for example `pip install torch==2.11.0 torchvision`
    TORCH_INDEX_URL    the package index to take torch from
    INDEX_URL          the package index to take everything else from
    REQS_FILE          a requirements file to use in place of `requirements/base.txt`

This file has no syntax newer than Python 3.6, so that an older Python can still read it and say in one sentence what
is missing; the rest lies in `launcher/`, which uses the standard library only.
"""

import os
import sys

MINIMUM = (3, 11)


def runs(python: str) -> bool:
    """Whether `python` is an interpreter that is new enough."""
    import subprocess

    code = f"import sys; sys.exit(sys.version_info[:2] < {MINIMUM})"
    try:
        return subprocess.call([python, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def complain(major: int, minor: int) -> str:
    """Start again with the Python that PYTHON names; where there is none, the sentence that says what to do."""
    named = os.environ.get("PYTHON", "").strip()
    if named and runs(named):
        import subprocess

        sys.exit(subprocess.call([named, *sys.argv]))
    newer = [name for name in ("python3.11", "python3.12", "python3.13", "python3.14") if runs(name)]
    advice = f"start it with: {newer[0]} launch.py" if newer else "install a newer one, or name one in PYTHON"
    return f"sfumato: Sfumato needs Python {MINIMUM[0]}.{MINIMUM[1]} or newer, but this is Python {major}.{minor}; {advice}."


if __name__ == "__main__":
    if sys.version_info[:2] < MINIMUM and "--skip-python-version-check" not in sys.argv:
        sys.exit(complain(*sys.version_info[:2]))
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # not there under PYTHONSAFEPATH
    from launcher.start import main

    sys.exit(main(sys.argv[1:]))
