import runpy
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "parameters.md"


def test_page_is_up_to_date():
    assert runpy.run_path(str(PAGE.with_suffix(".py")))["page"]() == PAGE.read_text(encoding="utf-8")
