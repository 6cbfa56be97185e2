"""The tokenizer: known ids, decoding, hostile input."""

import random
import subprocess
import sys
import time

import pytest

from sfumato.engine.models.tokenizer import BOS, EOS, Tokenizer
from sfumato.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", []),
        (" \t\n\u3000", []),
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("  A PHOTO\nof\ta   Cat ", [320, 1125, 539, 320, 2368]),
        ("!", [256]),
        ("a", [320]),
        ("<|endoftext|>cat<|STARTOFTEXT|>", [EOS, 2368, BOS]),
        ("2024", [273, 271, 273, 275]),
    ],
)
def test_known_ids(text, ids):
    assert Tokenizer().encode(text) == ids


@pytest.mark.parametrize(
    ("text", "back"),
    [
        ("A photo,of a CAT's hat", "a photo , of a cat 's hat"),
        ("Größe 12½ 日本 🙂!!", "größe 1 2 ½ 日本 🙂!!"),
        ("supercalifragilistic", "supercalifragilistic"),
        ("\x00 \x7f", "\x00 \x7f"),
        ("<|endoftext|>", "<|endoftext|>"),
    ],
)
def test_decoding_gives_the_words_back(text, back):
    tokenizer = Tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == back


def test_every_token_can_be_decoded():
    tokenizer = Tokenizer()
    assert all(isinstance(tokenizer.decode([token]), str) for token in range(49408))
    assert tokenizer.decode([320, 157]) == "a \ufffd"


@pytest.mark.parametrize("token", [-1, 49408, 10**9])
def test_an_id_outside_the_vocabulary_is_named(token):
    with pytest.raises(InvalidRequest, match=f"no token {token}"):
        Tokenizer().decode([320, token])


def test_lone_surrogates_are_text_like_any_other():
    assert Tokenizer().decode(Tokenizer().encode("a \ud800 b")).endswith("b")


HOSTILE = {
    "one letter": "a" * 65536,
    "one word": "".join(random.Random(0).choices("etaoinshrdlu", k=65536)),
    "words": "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz    ", k=65536)),
    "signs": "!" * 65536,
    "emoji": "🙂" * 16384,
    "accents": "e" + "\u0301" * 32000,
    "special tokens": "<|endoftext|>" * 5041,
    "almost special tokens": "<|endoftext|" * 5461,
    "apostrophes": "'" * 65536,
    "numbers": "½a" * 21845,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_time_is_linear_in_the_text(kind):
    tokenizer = Tokenizer()
    text = HOSTILE[kind]
    tokenizer.encode("the vocabulary is read now")

    def seconds(part):
        # Processor time, the best of three: other programs share the machine.
        times = []
        for _ in range(3):
            start = time.process_time()
            tokenizer.encode(part)
            times.append(time.process_time() - start)
        return min(times)

    whole = seconds(text)
    assert whole < 0.2
    assert whole < 12 * seconds(text[: len(text) // 4]) + 0.005


def test_importing_reads_no_vocabulary():
    code = (
        "import sys, sfumato.engine.models.tokenizer as t; t.Tokenizer(); "
        "assert t._vocabulary.cache_info().currsize == 0 and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
