"""Hostile prompts: 64 KB of anything are read in 100 ms, and twice the text takes at most about twice the time."""

import gc
import time

import pytest
from tests.engine.prompt.words import families

from sfumato.engine.prompt.attention import parse_attention
from sfumato.engine.prompt.comments import strip_comments
from sfumato.engine.prompt.compose import compose
from sfumato.engine.prompt.extra_networks import extract_tags
from sfumato.engine.prompt.timeline import Clock, timeline
from sfumato.errors import InvalidRequest

SIZE = 65536
PARSERS = {
    "comments": strip_comments,
    "tags": extract_tags,
    "parts": lambda text: compose([text]),
    "timeline": lambda text: timeline(text, Clock(30))[-1],
    "attention": parse_attention,
}


def seconds(parse, text: str) -> float:
    """Processor time of one run: what the parser needs, not what else the machine does."""
    began = time.process_time()
    try:
        parse(text)
    except InvalidRequest:
        assert text  # a clear refusal is an answer, too
    return time.process_time() - began


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.parametrize("family", families(64))
def test_linear(parser, family):
    gc.collect()
    whole = half = float("inf")
    for _ in range(10):
        # Both in turn and the best of each, because a busy machine only ever makes a run longer.
        whole = min(whole, seconds(PARSERS[parser], families(SIZE)[family]))
        half = min(half, seconds(PARSERS[parser], families(SIZE // 2)[family]))
        if whole <= 0.1 and whole <= max(2.5 * half, 0.002):
            return
    assert whole <= 0.1
    assert whole <= 2.5 * half


@pytest.mark.parametrize("family", families(64))
def test_every_text_of_a_long_timeline(family):
    line = timeline(families(SIZE)[family], Clock(150))
    assert line.until[-1] == 150
    assert sum(len(text) for _, text in line) <= 150 * SIZE
