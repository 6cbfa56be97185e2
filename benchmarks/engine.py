"""How fast the engine is beside another program: the same work, the same machine, turn by turn.

    python benchmarks/engine.py --peer diffusers
    python benchmarks/engine.py --peer diffusers --cases unet_step,vae_decode --repeats 5 --json result.json

Both sides run as processes of their own that stay alive; after a warm-up they take turns, so that a slow minute of the
machine hits both. Reported are medians. The peer is measured as it comes and in channels-last, and the faster of both is what
we are compared with. The peer gets a virtual environment of its own, made at the first run, with the same version of
PyTorch; `--peer-python` names one that is already there. Weights are random, from a seed; nothing is downloaded but packages.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peer_environment import peer_python

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parent / "src"

# Work of each case in GFLOP when it is done directly, without the products inside the UNet's attention: what published
# figures count. Winograd's convolutions do less, which is the point; the rate is of the work that is wanted.
CASES = {
    "unet_step": 1354.0,
    "vae_decode": 2514.0,
    "unet_step_256": 343.0,
    "vae_decode_256": 622.0,
    "text_encode": 26.6,
    "import": None,
    "load": None,
}
PEERS = {"diffusers": ("plain", "channels_last")}


class Side:
    """A process that measures on request: a line of JSON in, a line of JSON out."""

    def __init__(self, python: str, script: str, threads: int, env: dict[str, str]) -> None:
        merged = {**os.environ, **env, "OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [python, str(HERE / script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=merged
        )

    def ask(self, **message: Any) -> dict[str, Any]:
        """The answer to a request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"The process that measures {message} ended: see its error above.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def seconds(self) -> float:
        """One timed run of the case that is prepared."""
        return float(self.ask(do="run")["seconds"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> int:
    options = parse()
    python = options.peer_python or peer_python(options.peer, torch_version())
    ours = {"PYTHONPATH": str(SOURCE)}
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        sides = {
            "sfumato": Side(sys.executable, "side_sfumato.py", options.threads, ours),
            options.peer: Side(python, f"side_{options.peer}.py", options.threads, {}),
        }
        with contextlib.ExitStack() as stack:
            for side in sides.values():
                stack.callback(side.close)
            machine = sides["sfumato"].ask(do="machine")
            print(f"{machine['cpu']}, {options.threads} threads, torch {machine['torch']}, sgemm {machine['sgemm']:.0f} GFLOP/s")
            cases = {}
            for name in options.cases:
                programs = {"sfumato": sys.executable, options.peer: python}
                times = dict(measure(name, sides, programs, options, Path(scratch)))
                cases[name] = judged(name, times, machine["sgemm"])
                print(line(name, cases[name]), flush=True)
    result = {"peer": options.peer, "machine": machine | {"threads": options.threads}, "cases": cases}
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: case["ratio"] for name, case in cases.items()}))
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=sorted(PEERS), default="diffusers", help="the program to compare with")
    parser.add_argument("--peer-python", metavar="PATH", help="a Python that has the peer, instead of an environment made for it")
    parser.add_argument("--cases", default=",".join(CASES), help="what to measure: %(default)s")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each side and variant (%(default)s)")
    parser.add_argument("--threads", type=int, default=physical_cores(), help="of both sides (%(default)s)")
    parser.add_argument("--json", metavar="FILE", help="where the result goes as JSON")
    parser.add_argument(
        "--scratch", metavar="DIR", help="folder for the files of the case 'load' (8 GB); the system's by default"
    )
    options = parser.parse_args()
    options.cases = [name for name in options.cases.split(",") if name]
    if unknown := sorted(set(options.cases) - set(CASES)):
        parser.error(f"unknown cases: {', '.join(unknown)}; there are {', '.join(CASES)}")
    if options.repeats < 1 or options.threads < 1:
        parser.error("--repeats and --threads must be at least 1")
    return options


def physical_cores() -> int:
    import psutil

    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def torch_version() -> str:
    from importlib.metadata import version

    return version("torch").split("+")[0]


def measure(
    name: str, sides: dict[str, Side], programs: dict[str, str], options: argparse.Namespace, scratch: Path
) -> Iterator[tuple[str, list[float]]]:
    """Seconds of every run: of our side as "sfumato", of the peer by variant."""
    peer = options.peer
    if name == "import":
        for _ in range(2):  # the first fills the disk cache
            times = {who: [import_time(program, who) for _ in range(options.repeats)] for who, program in programs.items()}
        yield "sfumato", times["sfumato"]
        yield "plain", times[peer]
        return
    variants = PEERS[peer] if name not in ("text_encode", "load") else ("plain",)
    ours: list[float] = []
    for side in sides.values():
        side.ask(do="prepare", case=name, scratch=str(scratch))
    for variant in variants:
        sides[peer].ask(do="layout", layout=variant)
        for side in sides.values():
            side.seconds()
        theirs: list[float] = []
        for _ in range(options.repeats):
            ours.append(sides["sfumato"].seconds())
            theirs.append(sides[peer].seconds())
        yield variant, theirs
    for side in sides.values():
        side.ask(do="release")
    yield "sfumato", ours


def import_time(python: str, who: str) -> float:
    """Seconds that a fresh process takes until it could load a model."""
    code = {"sfumato": "import sfumato.engine.checkpoint.load", "diffusers": "from diffusers import StableDiffusionPipeline"}
    env = {**os.environ, "PYTHONPATH": str(SOURCE)} if who == "sfumato" else dict(os.environ)
    start = time.perf_counter()
    subprocess.run([python, "-c", code[who]], check=True, env=env)
    return time.perf_counter() - start


def judged(name: str, times: dict[str, list[float]], sgemm: float) -> dict[str, Any]:
    """The figures of one case."""
    medians = {who: statistics.median(runs) for who, runs in times.items()}
    variants = {who: median for who, median in medians.items() if who != "sfumato"}
    fastest = min(variants, key=variants.__getitem__)
    case: dict[str, Any] = {
        "sfumato_s": round(medians["sfumato"], 4),
        "peer_s": round(variants[fastest], 4),
        "ratio": round(medians["sfumato"] / variants[fastest], 4),
        "peer_variant": fastest,
        "peer_variants_s": {who: round(median, 4) for who, median in variants.items()},
        "runs_s": {who: [round(run, 4) for run in runs] for who, runs in times.items()},
    }
    work = CASES[name]
    if work is not None:
        case |= {"gflop": work, "gflops": round(work / medians["sfumato"], 1)}
        case |= {"of_sgemm": round(case["gflops"] / sgemm, 3), "peer_gflops": round(work / variants[fastest], 1)}
    return case


def line(name: str, case: dict[str, Any]) -> str:
    text = f"{name:<15} sfumato {case['sfumato_s']:8.3f} s   peer {case['peer_s']:8.3f} s ({case['peer_variant']})"
    text += f"   ratio {case['ratio']:.3f}"
    return text + (f"   {case['gflops']:.0f} GFLOP/s, {case['of_sgemm']:.2f} of sgemm" if "gflops" in case else "")


if __name__ == "__main__":
    if platform.system() == "Windows":
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.exit(main())
