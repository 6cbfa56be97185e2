"""What both sides of a benchmark have in common: waiting for requests, and timing what they prepared."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

Work = Callable[[], object]


def serve(prepare: Callable[[str, str], Work], layout: Callable[[str], None], release: Callable[[], None]) -> None:
    """Answer requests until the input ends.

    Args:
        prepare: (case, scratch folder) -> the work to time.
        layout: puts what is prepared into a memory layout.
        release: forgets what is prepared.
    """
    work: Work | None = None
    with torch.inference_mode():
        for text in sys.stdin:
            request = json.loads(text)
            answer: dict[str, Any] = {}
            if request["do"] == "prepare":
                work = prepare(request["case"], request["scratch"])
            elif request["do"] == "layout":
                layout(request["layout"])
            elif request["do"] == "release":
                work = None
                release()
                gc.collect()
            elif request["do"] == "machine":
                answer = {"sgemm": sgemm(), "cpu": processor(), "torch": torch.__version__}
            else:
                assert work is not None
                start = time.perf_counter()
                work()
                answer = {"seconds": time.perf_counter() - start}
            print(json.dumps(answer), flush=True)


def touched(*models: torch.nn.Module) -> float:
    """Read every weight: what was only mapped comes into memory now, as it would in the first step."""
    return sum(float(tensor.sum()) for model in models for tensor in model.parameters())


def sgemm(side: int = 2048, repeats: int = 15) -> float:
    """GFLOP/s of the best of some products of two square matrices: what this machine can do."""
    a, b, result = torch.randn(side, side), torch.randn(side, side), torch.empty(side, side)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b, out=result)
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times) / 1e9


def processor() -> str:
    """Name of the processor, or of its instruction set."""
    capability = torch.backends.cpu.get_cpu_capability()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            name = next(text.split(":", 1)[1].strip() for text in lines if text.startswith("model name"))
    except (OSError, StopIteration):
        return capability
    return f"{name} ({capability})"
