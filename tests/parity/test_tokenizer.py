"""Our tokenizer against transformers' and instant-clip-tokenizer on many texts."""

import random
import unicodedata

import pytest
from transformers import CLIPTokenizer

from sfumato.engine.models import tokenizer as module
from sfumato.engine.models.tokenizer import Tokenizer

InstantTokenizer = pytest.importorskip("instant_clip_tokenizer", reason="has no wheel for this Python or machine").Tokenizer

WORDS = [
    word
    for line in (
        "a photo of an astronaut riding the horse masterpiece best-quality ultra_detailed 8k (((cat))) [dog:cat:0.5]",
        "it's they'll we've I'm you're don't he'd <lora:x:0.8> Größe naïve façade élève ﬁne Ⅷ ½ ² ٣ 日本語 한국어",
        "ไทย हिन्दी עברית العربية",
        "русский ΟΔΟΣ ΣΊΣΥΦΟΣ İstanbul ẞ 🙂 👩‍👩‍👧 🏳️‍🌈 🇩🇪 e\u0301\u0323 \u1e9b\u0323 --ar 16:9 1girl,",
        "2boys\t\n\u00a0\u3000\x1c\x85\u200b\ufeff <|endoftext|> <|startoftext|> '' ' 'tis 'S \x00 \x7f _ __init__ a_b 3.14159",
        "supercalifragilisticexpialidocious",
    )
    for word in line.split(" ")
]


def texts(seed: int) -> list[str]:
    rng = random.Random(seed)
    planes = [range(0x20, 0x7F), range(0x20, 0x250), range(0x20, 0x3000), range(0x1F300, 0x1FB00), range(0x20, 0x20000)]
    made = [" ".join(rng.choices(WORDS, k=rng.randrange(1, 30))) for _ in range(1500)]
    made += ["".join(rng.choices(WORDS, k=rng.randrange(1, 12))) for _ in range(1500)]
    for plane in planes:
        # Signs that are younger than Unicode 3.2 compose or change case according to the age of a library's tables.
        emoji = plane[0] == 0x1F300
        signs = [chr(code) for code in plane if emoji or unicodedata.ucd_3_2_0.category(chr(code)) not in ("Cs", "Cn")]
        made += ["".join(rng.choices(signs, k=rng.randrange(1, 40))) for _ in range(800)]
    for alphabet in ("ab", "etaoin", "abcdefghijklmnopqrstuvwxyz", "ha ", "!?.", "'st ", "0a½ "):
        made += ["".join(rng.choices(alphabet, k=rng.randrange(1, 120))) for _ in range(300)]
    return made


@pytest.fixture(scope="module")
def reference() -> CLIPTokenizer:
    """transformers' tokenizer, made from our vocabulary."""
    signs = [*map(chr, range(256))]
    order = module._byte_order()
    extra = iter(range(256, 512))
    signs = [chr(byte) if byte in order[:188] else chr(next(extra)) for byte in order]
    pairs = module._pairs()
    pieces = [
        *signs,
        *(f"{sign}</w>" for sign in signs),
        *(left + right for left, right in pairs),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    assert len(set(pieces)) == 49408
    return CLIPTokenizer(vocab={piece: number for number, piece in enumerate(pieces)}, merges=pairs)


def test_ids_are_those_of_transformers(reference, seed):
    ours = Tokenizer()
    made = texts(seed)
    wanted = reference(made, add_special_tokens=False)["input_ids"]
    wrong = [(text, ours.encode(text), want) for text, want in zip(made, wanted, strict=True) if ours.encode(text) != want]
    assert len(made) > 8000
    assert not wrong, wrong[:3]


def test_a_very_long_word_is_that_of_transformers(reference, seed):
    rng = random.Random(seed)
    for alphabet in ("a", "ha", "etaoinshrdlu", "🙂é"):
        text = "".join(rng.choices(alphabet, k=5000))
        assert Tokenizer().encode(text) == reference(text, add_special_tokens=False)["input_ids"]


def test_ids_are_those_of_an_independent_vocabulary(seed):
    """It neither normalises nor knows special tokens, so only texts that need neither are compared."""
    other, ours = InstantTokenizer(), Tokenizer()
    plain = [text for text in texts(seed) if text.isascii() and text.isprintable() and "<|" not in text]
    assert len(plain) > 1500
    wrong = [(text, ours.encode(text), other.encode(text)) for text in plain if ours.encode(text) != list(other.encode(text))]
    assert not wrong, wrong[:3]


def test_decoded_text_is_that_of_transformers(reference, seed):
    ours = Tokenizer()
    for text in texts(seed)[::10]:
        ids = ours.encode(text)
        if set(ids) & {ours.bos, ours.eos}:
            continue
        assert ours.decode(ids).strip() == reference.decode(ids).strip(), text
