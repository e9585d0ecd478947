"""The generated parts of the READMEs are what their script writes."""

import re

import pytest

from lib import contract, paths, readme, scorecard
from lib.errors import UserError


@pytest.mark.parametrize("path", readme.READMES, ids=lambda path: paths.relative(path))
def test_the_committed_readme_is_current(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert readme.renewed(text, path) == text, "run `python -m lib.readme`"


@pytest.mark.parametrize("path", readme.READMES, ids=lambda path: paths.relative(path))
def test_every_link_leads_to_a_file(path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def test_a_series_tells_of_its_own_notebooks_and_claims_and_the_project_of_all() -> None:
    top, *series = (path.read_text(encoding="utf-8") for path in readme.READMES)
    own = [
        [promise for promise in contract.all_notebooks() if promise.name.startswith(name)] for name in scorecard.PAPERS
    ]
    for text, promises in zip(series, own, strict=True):
        assert re.findall(r"^\| \[.*?\]\((.*?)\)", text, re.MULTILINE) == [found.notebook.name for found in promises]
    for promise in contract.all_notebooks():
        assert f"notebooks/{promise.name}.ipynb" in top
    assert sum(text.count("| **") for text in series) == top.count("| **") == len(scorecard.verdicts("cpu"))


def test_an_edited_table_is_seen_and_a_missing_marker_is_named() -> None:
    path = readme.READMES[0]
    text = path.read_text(encoding="utf-8")
    edited = text.replace("| [1.1_noise_schedule]", "| [1.1_noise]")
    assert edited != text
    assert readme.renewed(edited, path) == text
    with pytest.raises(UserError, match="begin notebooks"):
        readme.renewed(text.replace("<!-- begin notebooks -->", ""), path)
