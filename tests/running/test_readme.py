"""The generated parts of the READMEs are what their script writes."""

import json
import re

import pytest

from lib import paths
from lib.errors import UserError
from lib.running import contract, readme, scorecard

LIMITS = paths.ROOT / "docs/limits.md"
# The differences that the README's first screen tells: file of the claim, and comparison.
TOLD = [
    ("1_infodiffusion/claim_order", "nouns earlier than in DiffuSeq"),
    ("1_infodiffusion/claim_paraphrase", "BLEU"),
    ("2_beacons/claim_interference", "paraphrase, equal updates per fact"),
    ("2_beacons/claim_interference", "prompt, equal updates per fact"),
    ("2_beacons/claim_filter_a", "full set, minus plain"),
    ("2_beacons/claim_filter_b", "full set, minus plain"),
    ("2_beacons/claim_reweighting", "right, minus plain"),
    ("3_lemoe/claim_routing", "Rel"),
    ("3_lemoe/claim_order", "Avg, clustered minus random"),
    ("3_lemoe/claim_lifelong", "Avg above GRACE"),
    ("4_hetero_kd/claim_middle", "ours minus output only, four sets"),
]


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"caf\xe9", "not UTF-8"), (b"", "markers")])
def test_a_readme_that_is_damaged_is_one_line(tmp_path, monkeypatch, content, reason) -> None:
    if content is not None:
        (tmp_path / "README.md").write_bytes(content)
    monkeypatch.setattr(readme, "READMES", (tmp_path / "README.md",))
    monkeypatch.setattr(readme, "notebook_table", lambda folder: "")
    monkeypatch.setattr(scorecard, "markdown", lambda folder: "")
    with pytest.raises(UserError, match=rf"README\.md: .*{reason}"):
        readme.outdated()


@pytest.mark.parametrize("path", readme.READMES, ids=lambda path: paths.relative(path))
def test_the_committed_readme_is_current(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert readme.renewed(text, path) == text, "run `python -m lib.running.readme`"


@pytest.mark.parametrize("path", [*readme.READMES, LIMITS], ids=lambda path: paths.relative(path))
def test_every_link_leads_to_a_file(path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def _published(stem: str) -> list[dict]:
    return json.loads((paths.FIGURES / f"{stem}.json").read_text())["rows"]


def test_the_first_screen_tells_the_numbers_of_the_claims() -> None:
    text = readme.READMES[0].read_text(encoding="utf-8")
    found = text[text.index("## What was found") : text.index("## The commands")]
    told = []
    for stem, comparison in TOLD:
        difference = next(row["difference"] for row in _published(stem) if row["comparison"] == comparison)
        told.append("{estimate:.3f} [{low:.3f}, {high:.3f}]".format(**difference))
    assert [" ".join(part.split()) for part in re.findall(r"-?\d\.\d{3}\s+\[.*?\]", found)] == told
    leaking = _published("3_lemoe/kinds")[-1]
    assert f"{leaking['leaking']} of its {leaking['edits']} edits" in found


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


def test_renewing_writes_what_is_out_of_date_and_says_so(tmp_path, monkeypatch) -> None:
    path = readme.READMES[1]
    copy = tmp_path / "README.md"
    copy.write_text(path.read_text(encoding="utf-8").replace("Minutes (`smoke`", "Minutes (old"))
    monkeypatch.setattr(readme, "READMES", (copy,))
    monkeypatch.setattr(readme, "renewed", lambda text, _: text.replace("Minutes (old", "Minutes (`smoke`"))
    assert readme.renew() == [copy]
    assert copy.read_text(encoding="utf-8") == path.read_text(encoding="utf-8")
    assert readme.renew() == []
