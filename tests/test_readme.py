"""The generated parts of the README are what their script writes."""

import pytest

from lib import contract, readme
from lib.errors import UserError


def test_the_committed_readme_is_current() -> None:
    text = readme.README.read_text(encoding="utf-8")
    assert readme.renewed(text) == text, "run `python -m lib.readme`"


def test_an_edited_table_is_seen_and_a_missing_marker_is_named() -> None:
    text = readme.README.read_text(encoding="utf-8")
    for promise in contract.all_notebooks():
        assert f"notebooks/{promise.name}.ipynb" in text
    edited = text.replace("| [1.1_noise_schedule]", "| [1.1_noise]")
    assert edited != text
    assert readme.renewed(edited) == text
    with pytest.raises(UserError, match="begin notebooks"):
        readme.renewed(text.replace("<!-- begin notebooks -->", ""))
