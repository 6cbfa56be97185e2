"""Random prompts, and hostile ones."""

import random
from functools import cache

from hypothesis import strategies as st

TEXTS = st.text(st.one_of(st.sampled_from("ab []()|:\\,.0123<>=#\n"), st.characters(codec="utf-8")), max_size=60)
FRAGMENTS = st.lists(
    st.sampled_from(
        [
            "a",
            "b ",
            " ",
            "[",
            "]",
            "(",
            ")",
            "|",
            ":",
            ":3",
            ":0.5]",
            ":1.2)",
            "\\",
            "\\[",
            "BREAK",
            " AND ",
            "<lora:",
            ">",
            "#",
            "\n",
        ]
    ),
    max_size=25,
).map("".join)
PROMPTS = st.one_of(TEXTS, FRAGMENTS)


@cache
def families(size: int) -> dict[str, str]:
    """Texts of about `size` characters that make careless parsers slow or recurse too deep."""
    chance = random.Random(0)

    def repeat(text: str) -> str:
        return text * (size // len(text))

    half = size // 2
    return {
        "square": "[" * size,
        "round": "(" * size,
        "closing": repeat("])"),
        "colons": ":" * size,
        "pipes": "|" * size,
        "spaces": ":" + " " * size,
        "words": repeat("a AND b BREAK "),
        "break": "BREAK" + " " * size,
        "tags": repeat("<lora:"),
        "empty tags": repeat("<lora:>"),
        "backslashes": "\\" * size,
        "comments": repeat("#\n"),
        "nested square": "[" * half + "]" * half,
        "nested round": repeat("(a")[:half] + ")" * half,
        "nested edits": "[a:" * (size // 6) + "b" + ":3]" * (size // 6),
        "broken edits": "[a:b:c:" * (size // 9) + "3]" * (size // 9),
        "nested alternates": "[" * (size // 5) + "|a]|b" * (size // 5),
        "edits": repeat("[a:b:0.3]"),
        "alternates": repeat("[a|b]"),
        "long alternate": "[" + "a|" * half + "]",
        "weights": repeat("(a:1.1)"),
        "digits": "(a:" + "9" * size,
        "when": "[a:b:" + "1" * size + "]",
        "AND weight": "a :" + "1" * (size // 2) + " " * (size // 2) + "AND",
        "mixed": repeat("((a [b|c:1.2) <lora:x:1> [d:e:0.5] | \\ "),
        "bytes": bytes(chance.randrange(256) for _ in range(size)).decode("latin-1"),
        "noise": "".join(chance.choice("[]()|:\\ab 15,<>#\n") for _ in range(size)),
    }
