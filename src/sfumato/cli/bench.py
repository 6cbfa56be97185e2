"""`sfumato bench`: how fast this machine makes pictures, measured through the events of ordinary jobs."""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

from sfumato.cli.app import Application, MakeApp
from sfumato.cli.options import add_app_options, app_options
from sfumato.cli.parameters import build, read_size
from sfumato.cli.parser import Parser
from sfumato.errors import InvalidRequest
from sfumato.events import Event, PhaseChanged, StepDone
from sfumato.request import Txt2Img

DESCRIPTION = "Make the same picture several times and show the medians: seconds per step, per decode and per picture."


def run(argv: list[str], make_app: MakeApp) -> int:
    """Measure and print; the first, slower picture is shown apart."""
    parser = Parser("bench", "[OPTIONS]", DESCRIPTION)
    for name, metavar, text in (
        ("--model", "FILE", "the model; the first one at hand by default"),
        ("--size", "WxH", "size of the picture; 512x512 by default"),
        ("--steps", "N", "sampling steps; 5 by default"),
        ("--sampler", "NAME", "the sampler; Euler by default"),
        ("--batch-size", "N", "pictures at the same time; 1 by default"),
        ("--repeat", "N", "how often, after the first time; 3 by default"),
    ):
        parser.add_argument(name, metavar=metavar, help=text)
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    add_app_options(parser)
    found = vars(namespace := parser.read(argv))
    repeat = found.get("repeat", "3")
    if not repeat.isdecimal() or not 1 <= int(repeat) <= 1000:
        raise InvalidRequest(f"--repeat: {repeat[:60]!r} is not a whole number from 1 to 1000.")
    values = {"prompt": "a red circle on a white background", "seed": 1, "steps": "5", "sampler": "Euler"}
    values |= {name: found[name] for name in ("model", "steps", "sampler", "batch_size") if name in found}
    values |= read_size(found["size"]) if "size" in found else {}
    request = build(Txt2Img, values)
    app = make_app(app_options(namespace))
    first = measure(app, request)
    runs = [measure(app, request) for _ in range(int(repeat))]
    facts: dict[str, Any] = {
        "width": request.width,
        "height": request.height,
        "steps": request.steps,
        "batch_size": request.batch_size,
        "first_s": round(first["total_s"], 4),
        **{name: round(statistics.median(run[name] for run in runs), 4) for name in runs[0]},
    }
    facts["steps_per_s"] = round(1 / facts["step_s"], 3) if facts["step_s"] else 0.0
    if "json" in found:
        print(json.dumps(facts))
    else:
        print("\n".join(f"{name.replace('_', ' '):<12} {value}" for name, value in facts.items()))
    return 0


def measure(app: Application, request: Txt2Img) -> dict[str, float]:
    """Seconds of one job: `total_s`, `encode_s`, `step_s` (the median step), `decode_s`."""
    began = last = time.perf_counter()
    phase = "load"
    spent: dict[str, float] = {}
    steps: list[float] = []
    for item in app.generate(request):
        now = time.perf_counter()
        if isinstance(item, StepDone):
            steps.append(now - last)
        spent[phase] = spent.get(phase, 0.0) + now - last
        if isinstance(item, PhaseChanged):
            phase = item.phase
        elif not isinstance(item, Event):
            phase = "decode"
        last = now
    return {
        "encode_s": spent.get("encode", 0.0),
        "step_s": statistics.median(steps) if steps else 0.0,
        "decode_s": spent.get("decode", 0.0),
        "total_s": time.perf_counter() - began,
    }
