"""The generated parts of the READMEs are what their script writes."""

import json
import re

import pytest

from lib import paths
from lib.errors import UserError
from lib.running import answers, contract, findings, plain_claims, readme, scorecard

PAGES = sorted((paths.ROOT / "docs").rglob("*.md"))
# The differences of the README's first screen: comparison, its verdict or the one that stands in for it, decimals.
TOLD = [
    ("nouns earlier than in DiffuSeq", ["1_infodiffusion/claim_order"], 3),
    ("Question Generation: BLEU", ["1_infodiffusion/claim_quality"], 3),
    ("paraphrase, equal updates per fact", ["2_beacons/claim_expression", "2_beacons/claim_interference"], 3),
    ("prompt, equal updates per fact", ["2_beacons/claim_learning", "2_beacons/claim_interference"], 3),
    ("full set, minus plain", ["2_beacons/claim_filter_a"], 3),
    ("full set, minus plain", ["2_beacons/claim_filter_b"], 3),
    ("right, minus plain", ["2_beacons/claim_reweighting"], 3),
    ("full set, minus random", ["2_beacons/claim_filter_a"], 3),
    ("full set, minus random", ["2_beacons/claim_filter_b"], 3),
    *((name, ["3_lemoe/claim_drawn_routing", "3_lemoe/claim_routing"], 2) for name in ("Rel", "agreement")),
    *(
        (name, ["3_lemoe/claim_drawn_routing_worded", "3_lemoe/claim_routing_trained"], 2)
        for name in ("Rel", "agreement")
    ),
    ("Avg above GRACE", ["3_lemoe/claim_drawn_lifelong", "3_lemoe/claim_lifelong"], 3),
]
MIDDLE = "4_hetero_kd/claim_middle"


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"caf\xe9", "not UTF-8"), (b"", "markers")])
def test_a_readme_that_is_damaged_is_one_line(tmp_path, monkeypatch, content, reason) -> None:
    if content is not None:
        (tmp_path / "README.md").write_bytes(content)
    monkeypatch.setattr(readme, "READMES", (tmp_path / "README.md",))
    monkeypatch.setattr(findings, "markdown", lambda: "")
    monkeypatch.setattr(answers, "markdown", lambda folder: "")
    monkeypatch.setattr(plain_claims, "markdown", lambda folder: "")
    with pytest.raises(UserError, match=rf"README\.md: .*{reason}"):
        readme.outdated()


@pytest.mark.parametrize("path", readme.READMES, ids=lambda path: paths.relative(path))
def test_the_committed_readme_is_current(path) -> None:
    text = path.read_text(encoding="utf-8")
    assert readme.renewed(text, path) == text, "run `python -m lib.running.readme`"


@pytest.mark.parametrize("path", [*readme.READMES, *PAGES], ids=lambda path: paths.relative(path))
def test_every_link_leads_to_a_file(path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert links or path not in readme.READMES
    assert [link for link in links if "://" not in link and not (path.parent / link).exists()] == []


def _published(stem: str) -> list[dict]:
    return json.loads((paths.FIGURES / f"{stem}.json").read_text())["rows"]


def _interval(comparison: str, stems: list[str], digits: int) -> str:
    stem = next(stem for stem in stems if (paths.FIGURES / f"{stem}.json").exists())
    found = next(row["difference"] for row in _published(stem) if row["comparison"] == comparison)
    estimate, low, high = (f"{found[name]:.{digits}f}" for name in ("estimate", "low", "high"))
    return f"{estimate} [{low}, {high}]"


def test_the_first_screen_tells_the_numbers_of_the_claims() -> None:
    text = readme.READMES[0].read_text(encoding="utf-8")
    found = text[text.index("<!-- begin findings -->") : text.index("<!-- end findings -->")]
    last = [one for one in _published(MIDDLE) if not one["comparison"].startswith("gate")]
    digits = 3 if "<" in last[0]["claimed"] else 1
    told = [_interval(*one) for one in [*TOLD, *((one["comparison"], [MIDDLE], digits) for one in last)]]
    assert re.findall(r"-?\d+\.\d+ \[.*?\]", found) == told
    leaking = _published("3_lemoe/kinds")[-1]
    assert f"{leaking['leaking']} of its {leaking['edits']} edits" in found


def test_a_series_tells_of_its_own_notebooks_and_claims_and_the_project_of_all() -> None:
    top, *series = (path.read_text(encoding="utf-8") for path in readme.READMES)
    promises = contract.all_notebooks()
    for text, name in zip(series, scorecard.PAPERS, strict=True):
        own = [found.notebook.name for found in promises if found.name.startswith(name)]
        assert re.findall(r"^\| \[.*?\]\((.*?)\)", text, re.MULTILINE) == own
    asked = re.findall(r"^- \[[\d.]+\]\((.*?)\) \S.*[?.] \S.*\.$", top, re.MULTILINE)
    assert asked == [f"notebooks/{promise.name}.ipynb" for promise in promises]
    claims = scorecard.verdicts("cpu")
    assert sum(text.count("| **") for text in series) == len(claims)
    told = re.findall(r"^- .*: \*\*.*\(\[[\d.]+\]\((.*?)\)\)\.$", top, re.MULTILINE)
    assert told == [f"notebooks/{claim['path']}.ipynb" for claim in claims]


def test_the_first_page_can_be_read_in_some_minutes() -> None:
    text = readme.READMES[0].read_text(encoding="utf-8")
    for markup in (r"```.*?```", r"<!--.*?-->", r"(?<=\])\([^)]*\)"):
        text = re.sub(markup, "", text, flags=re.DOTALL)
    assert len(re.findall(r"\w\S*", text)) < 1200  # 940 today, and each claim of steps to come brings a dozen


def test_an_edited_table_is_seen_and_a_missing_marker_is_named() -> None:
    path = readme.READMES[0]
    text = path.read_text(encoding="utf-8")
    edited = text.replace("- [1.1](", "- [1.1.](")
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
