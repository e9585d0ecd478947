"""The parts of pages that scripts write."""

from pathlib import Path

import pytest

from lib.errors import UserError
from lib.reporting import pages

TEXT = "a\n<!-- begin one -->\nold\n<!-- end one -->\nb\n<!-- begin two -->\n<!-- end two -->\n"


def test_each_part_is_written_between_its_markers_and_the_rest_stays() -> None:
    parts = {"two": r"\1 and \g<0>", "one": "new\nlines"}  # what a pattern would take for its groups
    wanted = (
        "a\n<!-- begin one -->\nnew\nlines\n<!-- end one -->\nb\n<!-- begin two -->\n\\1 and \\g<0>\n<!-- end two -->\n"
    )
    found = pages.renewed(TEXT, Path("page.md"), parts)
    assert found == wanted
    assert pages.renewed(found, Path("page.md"), parts) == found
    assert pages.renewed(TEXT, Path("page.md"), {}) == TEXT


@pytest.mark.parametrize("gone", ["<!-- begin one -->\n", "<!-- end one -->"])
def test_a_part_without_its_markers_names_page_and_part(gone: str) -> None:
    with pytest.raises(UserError, match=r"page\.md: the markers 'begin one' and 'end one' are missing"):
        pages.renewed(TEXT.replace(gone, ""), Path("page.md"), {"two": "", "one": ""})
