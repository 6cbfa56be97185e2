"""CLIP's tokenizer: lower-cased words, split into byte pairs (Sennrich et al. 2016; Radford et al. 2021).

All of Stable Diffusion's text encoders share this one vocabulary. Ids are those of transformers' `CLIPTokenizer`: NFC,
runs of white space are one, lower case, words of letters, single digits, runs of other signs, then byte-pair merges.
"""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from heapq import heapify, heappop, heappush
from importlib.resources import files
from itertools import chain, groupby, pairwise

from sfumato.errors import InvalidRequest

BOS = 49406
"""Id of the token that begins every sequence."""
EOS = 49407
"""Id of the token that ends every sequence."""

_SPECIAL = {"<|startoftext|>": BOS, "<|endoftext|>": EOS}
_SPECIAL_PATTERN = re.compile(r"(<\|startoftext\|>|<\|endoftext\|>)", re.IGNORECASE | re.ASCII)
_SPACE = r"\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
# Letters and the numbers that are no decimal digits are told apart afterwards, as `re` has no such classes.
_WORD_PATTERN = re.compile(
    rf"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\w{_SPACE}]|_)+",
)
_END = 256
"""Added to a byte's symbol where the byte ends a word."""


class Tokenizer:
    """Text to token ids and back. Making one costs nothing; the first use reads the vocabulary (some 50 ms, once)."""

    bos = BOS
    eos = EOS

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without start and end tokens, in time linear in its length.

        "<|startoftext|>" and "<|endoftext|>", in any case as OpenAI's own tokenizer has it, are the special tokens.
        """
        ids: list[int] = []
        for part in _SPECIAL_PATTERN.split(text):
            special = _SPECIAL.get(part.lower())
            ids += _encode_plain(part) if special is None else [special]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text that `ids` stand for: lower case, a space behind each word; broken UTF-8 becomes U+FFFD.

        Raises:
            InvalidRequest: an id is not in the vocabulary.
        """
        pieces = _pieces()
        chosen = list(ids)
        for token in chosen:
            if not 0 <= token < len(pieces):
                raise InvalidRequest(f"There is no token {token}.", advice=f"Token ids are 0 to {len(pieces) - 1}.")
        return b"".join(pieces[token] for token in chosen).decode("utf-8", errors="replace").rstrip(" ")


def _encode_plain(text: str) -> list[int]:
    """Ids of text without special tokens."""
    # Lower case sign by sign: a sigma at the end of a word is not treated apart.
    clean = unicodedata.normalize("NFC", text).replace("Σ", "σ").lower()
    vocabulary = _vocabulary()
    symbols: list[int] = []
    for word in _words(clean):
        codes = word.encode("utf-8", errors="surrogatepass")
        symbols += codes.translate(vocabulary.symbol_of_byte)
        symbols[-1] += _END
    return _merge(symbols, vocabulary.merges)


def _words(text: str) -> Iterator[str]:
    """Split into contractions, runs of letters, single numbers and runs of other signs."""
    for word in _WORD_PATTERN.findall(text):
        if word.isascii() or word.isalpha() or not word[0].isalnum():
            yield word
            continue
        for letters, signs in groupby(word, str.isalpha):
            if letters:
                yield "".join(signs)
            else:
                yield from signs


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """What encoding needs.

    Attributes:
        symbol_of_byte: translation table from a byte to its token id inside a word; at a word's end it is 256 more.
        merges: left id * 65536 + right id -> id of the two merged. Lower ids merge first.
    """

    symbol_of_byte: bytes
    merges: dict[int, int]


def _merge(symbols: list[int], merges: dict[int, int]) -> list[int]:
    """Merge the pair of lowest rank, everywhere from left to right, until no pair can be merged.

    Words need not be kept apart: no merge has a left part that ends a word. A pair made by a merge always ranks behind
    that merge, so each rank is visited once, and every symbol takes part in as many steps as it is merged.
    """
    end = len(symbols)
    find = merges.get
    waiting: dict[int, list[int]] = {}
    for place, (left, right) in enumerate(pairwise(symbols)):
        made = find(left << 16 | right)
        if made is not None:
            waiting.setdefault(made, []).append(place)
    symbols = [*symbols, -1]
    before, after = list(range(-1, end)), list(range(1, end + 2))
    ranks = list(waiting)
    heapify(ranks)
    while ranks:
        made = heappop(ranks)
        places = waiting.pop(made)
        places.sort()
        for place in places:
            partner = after[place]
            # The pair may be gone: one of its parts was merged with its other neighbour meanwhile. Gone symbols, and those
            # beyond either end, are -1, which makes a key that is never found.
            if find(symbols[place] << 16 | symbols[partner]) != made:
                continue
            follower = after[partner]
            symbols[place], symbols[partner] = made, -1
            after[place], before[follower] = follower, place
            for start, key in ((before[place], symbols[before[place]] << 16 | made), (place, made << 16 | symbols[follower])):
                rank = find(key)
                if rank is None:
                    continue
                if rank in waiting:
                    waiting[rank].append(start)
                else:
                    waiting[rank] = [start]
                    heappush(ranks, rank)
    return [symbol for symbol in symbols if symbol >= 0]


def _byte_order() -> list[int]:
    """The bytes in the order of their ids: printable Latin-1 signs first, the others behind them."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return printable + sorted(set(range(256)) - set(printable))


@cache
def _pairs() -> list[tuple[str, str]]:
    """The merges as the vocabulary file writes them, one per line: left part, space, right part."""
    packed = (files(__package__) / "clip_merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode("utf-8").splitlines()
    return [(left, right) for left, _, right in (line.partition(" ") for line in lines[1:])]


@cache
def _vocabulary() -> _Vocabulary:
    order = _byte_order()
    # The file writes each byte as one sign: printable ones as themselves, the others from U+0100 on.
    extra = iter(range(256, 512))
    signs = [chr(byte) if byte in order[:188] else chr(next(extra)) for byte in order]
    ids = {sign: number for number, sign in enumerate(chain(signs, (f"{sign}</w>" for sign in signs)))}
    merges = {}
    for number, (left, right) in enumerate(_pairs(), start=len(ids)):
        merges[ids[left] << 16 | ids[right]] = number
        ids[left + right] = number
    return _Vocabulary(bytes(order.index(byte) for byte in range(256)), merges)


@cache
def _pieces() -> list[bytes]:
    """The bytes of every token, with a space where it ends a word; special tokens are their own names."""
    order = _byte_order()
    pieces = [bytes([byte]) for byte in order] + [bytes([byte, 32]) for byte in order]
    for key in _vocabulary().merges:
        pieces.append(pieces[key >> 16] + pieces[key & 0xFFFF])
    return pieces + [name.encode() for name in _SPECIAL]
