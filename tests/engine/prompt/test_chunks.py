"""Chunks of 75 tokens: padding, commas, BREAK, embeddings, counting."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.prompt.words import PROMPTS

from sfumato.engine.models.tokenizer import Tokenizer
from sfumato.engine.prompt.chunks import Chunker, Embedding, EmbeddingTable
from sfumato.errors import InvalidRequest

TOKENIZER = Tokenizer()
BOS, EOS, COMMA = TOKENIZER.bos, TOKENIZER.eos, TOKENIZER.encode(",")[0]


def words(count, word="cat"):
    return " ".join([word] * count)


def lengths(text, **options):
    """How many tokens each chunk holds."""
    return [chunk.tokens[1:].index(EOS) for chunk in Chunker(TOKENIZER, **options)(text).chunks]


def embedding(name, vectors):
    return Embedding(name, tuple(TOKENIZER.encode(name)), (torch.zeros(vectors, 4),))


def test_a_short_text_is_padded():
    chunked = Chunker(TOKENIZER)("a (red:1.5) fox")
    (chunk,) = chunked.chunks
    assert chunk.tokens == (BOS, *TOKENIZER.encode("a red fox"), *[EOS] * 73)
    assert chunk.weights == (1.0, 1.0, 1.5, 1.0, *[1.0] * 73)
    assert (chunked.count, chunked.limit) == (3, 75)


def test_an_empty_text_is_one_empty_chunk():
    chunked = Chunker(TOKENIZER)("")
    assert [chunk.tokens for chunk in chunked.chunks] == [(BOS, *[EOS] * 76)]
    assert (chunked.count, chunked.limit) == (0, 75)


@pytest.mark.parametrize(("count", "expected"), [(74, [74]), (75, [75]), (76, [75, 1]), (150, [75, 75]), (151, [75, 75, 1])])
def test_long_texts(count, expected):
    assert lengths(words(count)) == expected
    chunked = Chunker(TOKENIZER)(words(count))
    assert chunked.count == count
    assert chunked.limit == 75 * len(expected)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (60, 20, [61, 20]),  # the comma is token 61; the 14 words behind it that were in the chunk move
        (55, 40, [56, 40]),  # comma and 19 words: 20 tokens, just near enough
        (54, 40, [75, 20]),  # one too far
        (74, 20, [75, 20]),  # the comma is the last token of the chunk
        (75, 20, [75, 21]),  # the comma itself does not fit, and begins the next chunk
        (10, 5, [16]),
    ],
)
def test_text_behind_the_last_comma_moves(before, after, expected):
    assert lengths(f"{words(before)}, {words(after)}") == expected


def test_weights_move_along():
    first, second = Chunker(TOKENIZER)(f"{words(60)}, ({words(20, 'dog')}:1.5)").chunks
    assert set(first.weights) == {1.0}
    assert second.weights[:22] == (1.0, *[1.5] * 20, 1.0)


def test_commas_across_pieces_and_without_backtrack():
    text = f"{words(50)}, {words(15)}, {words(30)}"
    assert lengths(text) == [67, 30]
    assert lengths(text, comma_backtrack=0) == [75, 22]
    assert lengths(text, comma_backtrack=8) == [75, 22]
    assert lengths(text, comma_backtrack=9) == [67, 30]
    assert lengths(text.replace(", cat", ", (cat:1.1)")) == [67, 30]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a BREAK b", [1, 1]),
        ("a BREAK BREAK b", [1, 0, 1]),
        ("BREAK", [0]),
        ("a BREAK", [1]),
        ("BREAK a", [0, 1]),
        ("(a BREAK b:1.2)", [3]),  # emphasis makes it a plain word
        ("a break b", [3]),
    ],
)
def test_break(text, expected):
    assert lengths(text) == expected


def test_break_counts_as_a_full_chunk():
    chunked = Chunker(TOKENIZER)("a BREAK b c")
    assert (chunked.count, chunked.limit) == (77, 150)


def test_without_emphasis_everything_is_text():
    (chunk,) = Chunker(TOKENIZER, emphasis="None")("(a:1.2) BREAK \\(").chunks
    assert chunk.tokens[1:8] == tuple(TOKENIZER.encode("(a:1.2) BREAK \\("))[:7]
    assert set(chunk.weights) == {1.0}


def test_embeddings_take_the_place_of_their_words():
    table = EmbeddingTable([embedding("cat", 2), embedding("cat dog", 3)])
    (chunk,) = Chunker(TOKENIZER, embeddings=table)("a cat, (cat dog:1.5), cats").chunks
    assert [(start, item.name) for start, item in chunk.embeddings] == [(2, "cat"), (5, "cat dog")]
    assert chunk.tokens[2:4] == (0, 0)
    assert chunk.tokens[4] == COMMA
    assert chunk.weights[5:8] == (1.5, 1.5, 1.5)
    assert chunk.tokens[9:11] == (*TOKENIZER.encode("cats"), EOS)


def test_an_embedding_is_never_cut():
    table = EmbeddingTable([embedding("cat", 10)])
    chunker = Chunker(TOKENIZER, embeddings=table)
    first, second = chunker(words(70, "dog") + " cat dog").chunks
    assert first.embeddings == ()
    assert first.tokens[71] == EOS
    assert [start for start, _ in second.embeddings] == [1]
    assert second.tokens[11:13] == (*TOKENIZER.encode("dog"), EOS)


def test_an_embedding_moves_behind_the_comma():
    table = EmbeddingTable([embedding("cat", 10), embedding("bird", 3)])
    first, second = Chunker(TOKENIZER, embeddings=table)(f"bird {words(59, 'dog')}, cat {words(9, 'dog')}").chunks
    assert [start for start, _ in first.embeddings] == [1]
    assert [start for start, _ in second.embeddings] == [1]
    assert first.tokens[64] == EOS
    assert second.tokens[11:20] == tuple(TOKENIZER.encode(words(9, "dog")))


@pytest.mark.parametrize(
    ("name", "vectors"), [("", (torch.zeros(1, 4),)), ("a", ()), ("a", (torch.zeros(76, 4),)), ("a", (torch.zeros(0, 4),))]
)
def test_impossible_embeddings(name, vectors):
    with pytest.raises(InvalidRequest, match="1 to 75 vectors"):
        Embedding(name, tuple(TOKENIZER.encode(name)), vectors)


def test_embeddings_of_unequal_length():
    with pytest.raises(InvalidRequest, match=r"\[1, 2\] vectors"):
        Embedding("a", (320,), (torch.zeros(1, 4), torch.zeros(2, 4)))


def test_emphasis_too_deep():
    with pytest.raises(InvalidRequest, match="too deep"):
        Chunker(TOKENIZER)("(" * 10000 + "a")


@given(PROMPTS, st.integers(0, 74))
def test_any_text(text, backtrack):
    chunker = Chunker(TOKENIZER, comma_backtrack=backtrack, embeddings=EmbeddingTable([embedding("a", 40)]))
    try:
        chunked = chunker(text)
    except InvalidRequest:
        return
    assert chunked.chunks
    assert chunked.count <= chunked.limit <= 75 * len(chunked.chunks)
    for chunk in chunked.chunks:
        assert len(chunk.tokens) == len(chunk.weights) == 77
        assert chunk.tokens[0] == BOS
        assert chunk.tokens[-1] == EOS
        assert all(set(chunk.tokens[start : start + item.length]) == {0} for start, item in chunk.embeddings)


@given(st.integers(1, 400), st.integers(0, 74), st.integers(2, 60))
def test_no_token_is_lost(count, backtrack, every):
    text = ", ".join(words(min(every, count - start)) for start in range(0, count, every))
    chunks = Chunker(TOKENIZER, comma_backtrack=backtrack)(text).chunks
    kept = [token for chunk in chunks for token in chunk.tokens if token not in (BOS, EOS)]
    assert kept == TOKENIZER.encode(text)
