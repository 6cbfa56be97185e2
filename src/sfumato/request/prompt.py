"""Parameters of the prompts and of how they are read."""

from __future__ import annotations

from functools import partial
from typing import Literal

from pydantic import BaseModel

from sfumato.parameter import param

MAX_PROMPT = 256 * 1024

_param = partial(param, group="Prompt")


class PromptParameters(BaseModel):
    """What the picture shows."""

    prompt: str = _param(
        "", "Prompt", "What the picture shows, in A1111's prompt language.", multiline=True, max_length=MAX_PROMPT, a1111="prompt"
    )
    negative_prompt: str = _param(
        "", "Negative prompt", "What it should not show.", multiline=True, max_length=MAX_PROMPT, a1111="negative_prompt"
    )
    styles: tuple[str, ...] = _param((), "Styles", "Named styles merged into both prompts.", max_length=100, a1111="styles")
    clip_skip: int = _param(
        1,
        "Clip skip",
        "Which layer of the text encoder is read, counted from the end.",
        ge=1,
        le=12,
        step=1,
        infotext="Clip skip",
        a1111="CLIP_stop_at_last_layers",
    )
    emphasis: Literal["Original", "No norm", "Ignore", "None"] = _param(
        "Original",
        "Emphasis mode",
        "What (word:1.2) does. Original multiplies and restores the mean of the encoding, No norm only multiplies, "
        "Ignore drops the weights, None takes the brackets as text.",
        infotext="Emphasis",
        a1111="emphasis",
    )
    comma_padding_backtrack: int = _param(
        20,
        "Comma backtrack",
        "When 75 tokens are full, what follows the last comma moves to the next 75 if it is at most this long.",
        ge=0,
        le=74,
        step=1,
        unit="tokens",
        a1111="comma_padding_backtrack",
    )
    enable_prompt_comments: bool = _param(
        True, "Prompt comments", "Text from # to the end of its line is ignored.", a1111="enable_prompt_comments"
    )
    old_prompt_editing_timelines: bool = _param(
        False,
        "Old prompt editing timelines",
        "In [from:to:when], numbers below 1 are fractions of the pass, and the second pass starts again at 0.",
        infotext="Old prompt editing timelines",
        a1111="use_old_scheduling",
    )
    pad_cond_uncond: bool = _param(
        False,
        "Pad prompts to equal length",
        "Pads the shorter of prompt and negative prompt with the encoding of an empty prompt.",
        infotext="Pad conds",
        a1111="pad_cond_uncond",
    )
    pad_cond_uncond_v0: bool = _param(
        False,
        "Pad prompts, the old way",
        "Pads with the last vector, or cuts, the negative prompt to the length of the prompt.",
        infotext="Pad conds v0",
        a1111="pad_cond_uncond_v0",
    )
    disable_extra_networks: bool = _param(
        False, "Ignore extra networks", "Tags such as <lora:name:1> have no effect.", a1111="disable_extra_networks"
    )
