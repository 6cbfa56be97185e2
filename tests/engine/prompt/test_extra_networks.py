"""Tags of networks: finding, meaning, refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine.prompt.words import PROMPTS

from sfumato.engine.prompt.extra_networks import NetworkTag, NetworkUse, extract_tags, network_uses
from sfumato.errors import InvalidRequest


def uses(text):
    return network_uses(extract_tags(text)[1])


def test_tags_are_grouped_by_type():
    text, tags = extract_tags("1girl, <hypernet:agm:1.1> <extra:master:12:13:14> <hypernet:ray>")
    assert text == "1girl,   "
    assert tags == (
        NetworkTag("hypernet", ("agm", "1.1")),
        NetworkTag("hypernet", ("ray",)),
        NetworkTag("extra", ("master", "12", "13", "14")),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<lora:a>", NetworkUse("lora", "a", 1.0, 1.0)),
        ("<lora:a:0.5>", NetworkUse("lora", "a", 0.5, 0.5)),
        ("<lyco:a:0.5:0.7:8>", NetworkUse("lora", "a", 0.5, 0.7, 8)),
        ("<lora:a:te=0.5:unet=1:dyn=8>", NetworkUse("lora", "a", 0.5, 1.0, 8)),
        ("<lora:a:unet=0>", NetworkUse("lora", "a", 1.0, 0.0)),
        ("<lora:a:0.1:te=0.2:te=0.3>", NetworkUse("lora", "a", 0.3, 0.3)),
        ("<lora:a:-1>", NetworkUse("lora", "a", -1.0, -1.0)),
        ("<hypernet:a:0.4>", NetworkUse("hypernet", "a", 0.4, 0.4)),
        ("<hypernet:a>", NetworkUse("hypernet", "a", 1.0, 1.0)),
    ],
)
def test_what_a_tag_asks_for(text, expected):
    assert uses(text) == [expected]


def test_tags_of_others_are_left_to_them():
    assert uses("<wildcard:a> <LORA:a>") == []


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<lora:a:>", "'' in the tag <lora:a:> is not a number"),
        ("<lora:a:strong>", "'strong' in the tag"),
        ("<lora:a:nan>", "is not a number"),
        ("<lora:a:1:inf>", "is not a number"),
        ("<lora:a:1:1:0>", "is not a rank"),
        ("<lora:a:dyn=1.5>", "is not a rank"),
        ("<lora:a:dyn=99999999>", "is not a rank"),
        ("<lora::1>", "names no network"),
        ("<lora:te=1>", "names no network"),
        ("<lora:" + "x" * 1000 + ":y>", r"xxx\.\.\. is not a number"),
    ],
)
def test_nonsense_is_refused(text, match):
    with pytest.raises(InvalidRequest, match=match):
        uses(text)


@given(PROMPTS)
def test_any_text(text):
    kept, tags = extract_tags(text)
    assert len(kept) + sum(len(str(tag)) for tag in tags) == len(text)
    assert all(tag.items and len(tag.named) <= len(tag.items) - len(tag.positional) for tag in tags)


@given(st.lists(st.text(st.characters(exclude_characters=":>", codec="utf-8"), min_size=1), min_size=1))
def test_a_tag_written_out_reads_back(items):
    tag = NetworkTag("lora", tuple(items))
    assert extract_tags(f"a{tag}b") == ("ab", (tag,))
