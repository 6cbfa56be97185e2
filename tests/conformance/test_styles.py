import pytest
from vectors import by_id, load

from sfumato.styles import Style, apply_styles, extract, extract_styles, load_styles, merge, parse_styles, save_styles

_, CASES = load("styles")


def outcome(case, folder):
    match case["kind"]:
        case "apply":
            return merge(case["prompt"], case["styles"])
        case "extract_one":
            found = extract(case["style"], case["prompt"])
            return {"match": found is not None, "prompt": case["prompt"] if found is None else found}
        case "csv_load":
            return [
                {"name": style.name, "prompt": style.prompt, "negative_prompt": style.negative_prompt}
                for style in parse_styles(case["csv"])
            ]
        case "db_apply":
            texts = apply_styles(parse_styles(case["csv"]), case["names"], case["prompt"], case["negative_prompt"])
            return dict(zip(("prompt", "negative_prompt"), texts, strict=True))
        case "db_extract":
            names, prompt, negative = extract_styles(parse_styles(case["csv"]), case["prompt"], case["negative_prompt"])
            return {"names": list(names), "prompt": prompt, "negative_prompt": negative}
        case "csv_save":
            path = folder / "styles.csv"
            path.write_bytes(case["csv"].encode())
            save_styles(path, load_styles(path))
            assert (folder / "styles.csv.bak").read_bytes() == case["csv"].encode()
            return path.read_bytes().decode()
    raise AssertionError(case["kind"])


@pytest.mark.parametrize("case", by_id(CASES))
def test_styles(case, tmp_path):
    assert outcome(case, tmp_path) == case["expected"]


def test_missing_file_has_no_styles(tmp_path):
    assert load_styles(tmp_path / "styles.csv") == ()


def test_style_is_a_value():
    assert Style("a") == Style("a", "", "")
