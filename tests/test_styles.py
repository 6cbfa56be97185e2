import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import CorruptFile, DiskFull, InvalidRequest
from sfumato.styles import Style, apply_styles, extract_styles, format_styles, load_styles, parse_styles, save_styles

CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=40)
NAME = CELL.filter(lambda name: name and not name.startswith(("#", "\ufeff")))


@given(st.lists(st.builds(Style, NAME, CELL, CELL), max_size=6, unique_by=lambda style: style.name))
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_back(styles):
    assert parse_styles(format_styles(styles)) == tuple(styles)


def test_styles_come_off_as_they_went_on():
    styles = [Style("Oil", "oil painting", "photo"), Style("Frame", "framed {prompt}, gold"), Style("Unused", "neon")]
    prompt, negative = apply_styles(styles, ["Oil", "Frame"], "a mill", "people")
    assert extract_styles(styles, prompt, negative) == (("Oil", "Frame"), "a mill", "people")


def test_styles_that_double_the_prompt_end_before_memory_does():
    styles = [Style("Twice", "{prompt} {prompt}")]
    assert apply_styles(styles, ["Twice", "Twice"], "x", "") == ("x x x x", "")
    with pytest.raises(InvalidRequest, match="longer than 256 KB"):
        apply_styles(styles, ["Twice"] * 100, "x", "")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"title,prompt\r\na,b\r\n", "no column named 'name'"),
        (b"\xff\xfe\x00", "not a UTF-8 text file"),
        (b"name,prompt\r\na," + b"x" * 200_000, "not valid CSV"),
    ],
)
def test_bad_files_are_explained(tmp_path, data, message):
    path = tmp_path / "styles.csv"
    path.write_bytes(data)
    with pytest.raises(CorruptFile, match=message):
        load_styles(path)


def test_short_rows_and_repeated_names():
    assert parse_styles("name,prompt,negative_prompt\na\nb,1\na,2,3\n,x\n") == (Style("a", "2", "3"), Style("b", "1"))


def test_empty_file_has_no_styles(tmp_path):
    (tmp_path / "styles.csv").touch()
    assert load_styles(tmp_path / "styles.csv") == ()


def test_full_disk_keeps_the_old_styles(tmp_path, monkeypatch):
    path = tmp_path / "styles.csv"
    save_styles(path, [Style("old")])

    def fail(path, data):
        raise DiskFull("no room")

    monkeypatch.setattr("sfumato.styles.write_atomic", fail)
    with pytest.raises(DiskFull):
        save_styles(path, [Style("new")])
    assert load_styles(path) == (Style("old"),)
