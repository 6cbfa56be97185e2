import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.filenames import NameFacts, expand, file_name, folder_parts, next_number, safe_name

MOMENT = datetime.datetime(2026, 3, 4, 5, 6, 7, tzinfo=datetime.UTC)
FACTS = NameFacts(prompt="a fox", seed=7, model="base", now=MOMENT)


def test_dates_and_times():
    assert expand("[date]", FACTS) == "2026-03-04"
    assert expand("[datetime]", FACTS) == "20260304050607"
    assert expand("[datetime<%H:%M>]", FACTS) == "05_06"
    assert expand("[datetime<%Y-%m-%d %H><Asia/Tokyo>]", FACTS) == "2026-03-04 14"
    assert expand("[datetime<%H><Nowhere/City>]", FACTS) == "05"


def test_numbered_file():
    assert file_name("[seed]", FACTS, ".png", 3) == "00003-7.png"
    assert file_name("", FACTS, ".png", 3) == "00003.png"
    assert file_name("[seed]-[prompt_words]", FACTS, ".jpg") == "7-a fox.jpg"


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("[date]", ("2026-03-04",)),
        ("../../etc/[seed]", ("etc", "7")),
        ("/abs/./x", ("abs", "x")),
        ("C:\\Windows\\..\\x", ("C_", "Windows", "x")),
        ("a//b", ("a", "b")),
        ("con/aux.txt/...", ("_con", "_aux.txt", "_")),
        ("", ()),
    ],
)
def test_folders_stay_below_the_output_folder(pattern, parts):
    assert folder_parts(pattern, FACTS) == parts


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NUL", "_NUL.png"),
        ("com1.x", "_com1.x.png"),
        ("a\0b\x1f\u202ec", "a_b__c.png"),
        ("..", "_.png"),
        ("", "_.png"),
        ("a/b\\c", "a_b_c.png"),
        ("lone \ud800", "lone _.png"),
        ("狐" * 200, "狐" * 83 + ".png"),
    ],
)
def test_names_suit_every_system(name, expected):
    assert safe_name(name, ".png") == expected
    assert len(safe_name(name, ".png").encode()) <= 255


@given(st.text(max_size=400), st.text(max_size=100))
@settings(max_examples=300, deadline=None)
def test_any_pattern_and_prompt_give_a_usable_name(pattern, prompt):
    facts = NameFacts(prompt=prompt, seed=1, user=prompt, now=MOMENT)
    name = file_name(pattern + "[prompt][user]", facts, ".png", 1)
    assert name.endswith(".png")
    assert not set(name) & set('/\\:*?"<>|\0')
    assert 0 < len(name.encode()) <= 255
    assert all(part not in ("", ".", "..") and "/" not in part for part in folder_parts(pattern, facts))


def test_words_without_their_facts_stay():
    assert expand("[image_hash]-[seed_last]", NameFacts(batch_size=2)) == "[image_hash]-[seed_last]"
    assert expand("[prompt_hash<x>]", FACTS) == "[prompt_hash]"


def test_huge_numbers_in_names_do_not_count():
    assert next_number(["9" * 40 + ".png", "00004-1.png", "-3.png"]) == 5


@pytest.mark.parametrize("text", ["[" * 65536, "[a" * 32768, "[a]" * 21845, "<" * 65536 + "]", "[a" + "<>" * 32768 + "]"])
def test_long_patterns_are_quick(text):
    assert expand(text, FACTS)
