"""The site: its sources, and what `make site` has built, opened in headless Chromium without a network."""

import functools
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build/site"
PYTHON = ROOT / "build/site-venv/bin/python"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
built = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="build/site is not there: `make site` builds it")
opened = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")
# Made wrong on purpose: an equation, a table, a picture, a link to a script of another host, an error of a script.
BROKEN = """<!doctype html><html><body><article style="width: 300px">
<div class="math">\\(x</div><span data-mjx-error="Missing brace">x</span>
<div><table style="width: 900px"><tr><td>wide</td></tr></table></div>
<img src="none.png"><script src="http://example.invalid/script.js"></script>
<script>throw new Error("of a script")</script><script>console.error("said")</script>
</article></body></html>"""


class Links(HTMLParser):
    """The places that a page names, and its ids."""

    def __init__(self) -> None:
        super().__init__()
        self.links, self.loads, self.ids = [], [], set()

    def handle_starttag(self, tag, attributes):
        told = dict(attributes)
        self.ids |= {told[name] for name in ("id", "name") if told.get(name)}
        if told.get("href") and tag == "a":
            self.links.append(told["href"])
        elif tag != "a":
            found = [told.get("src"), told.get("href")] if told.get("rel") != "canonical" else []
            self.loads += [one for one in found if one]


@functools.cache
def read(page):
    """Return what a page links to, loads and names."""
    parser = Links()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser


def broken_links(page):
    """Return the links of a page, within its site, that lead nowhere, and what it loads from elsewhere."""
    parser = read(page)
    yield from (one for one in parser.loads if urlsplit(one).netloc)
    for link in {*parser.links, *parser.loads}:
        told = urlsplit(link)
        if told.scheme or told.netloc:
            continue
        goal = (page.parent / unquote(told.path)).resolve() if told.path else page
        if not goal.is_file() or (
            told.fragment and goal.suffix == ".html" and unquote(told.fragment) not in read(goal).ids
        ):
            yield link


def browse(folder, *pages):
    """Return what `browse.py` tells of pages, in the site's own environment."""
    line = [PYTHON, Path(__file__).with_name("browse.py"), folder, CHROMIUM, *pages]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The sources of the site."""
    folder = tmp_path_factory.mktemp("site") / "sources"
    subprocess.run([sys.executable, "-I", ROOT / "docs/pages.py", folder], check=True)
    return folder


@pytest.fixture(scope="module")
def told():
    """What the browser says of the built site."""
    return browse(SITE)


def unlinked(outputs):
    """Return outputs with the goals of their Markdown's links taken out: those of a page lead to pages."""
    return json.loads(re.sub(r"(?<=\]\()[^)]*(?=\))", "", json.dumps([joined(output) for output in outputs])))


def joined(output):
    """Return an output with its Markdown as one text."""
    data = output.get("data", {})
    if "text/markdown" not in data:
        return output
    return output | {"data": data | {"text/markdown": "".join(data["text/markdown"])}}


def test_every_notebook_is_a_page_with_folded_code_and_its_outputs_as_committed(sources):
    committed = sorted((ROOT / "notebooks").rglob("*.ipynb"))
    for path in committed:
        before = json.loads(path.read_text(encoding="utf-8"))["cells"]
        after = json.loads((sources / path.relative_to(ROOT)).read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in after if cell["cell_type"] == "code"]
        shown = [unlinked(cell["outputs"]) for cell in before if cell.get("outputs")]
        assert [unlinked(cell["outputs"]) for cell in code if cell["outputs"]] == shown
        source = "\n".join("".join(cell["source"]) for cell in before if cell["cell_type"] == "code")
        assert "\n".join(cell["source"] for cell in code).split() == source.split()
        assert all(cell["metadata"]["tags"] == ["hide-input"] for cell in code)
    assert len(list(sources.rglob("*.ipynb"))) == len(committed)


def test_gallery_and_tables_show_every_promised_file_with_its_notebook_and_each_of_its_records(sources):
    pages = {"figure": (sources / "gallery.md").read_text(), "table": (sources / "tables.md").read_text()}
    stems = 0
    for path in (ROOT / "notebooks").rglob("*.ipynb"):
        for stem, kind in json.loads(path.read_text(encoding="utf-8"))["metadata"]["reproduction"]["kinds"].items():
            stems += 1
            _, _, entry = pages[kind].partition(f"(file-{stem.replace('/', '-')})=")
            entry = re.split(r"^\(file-", entry, maxsplit=1, flags=re.MULTILINE)[0]
            records = json.loads((ROOT / f"figures/{stem}.json").read_text())["records"]
            for place in (path.relative_to(ROOT), f"figures/{stem}.json", *(one["record"] for one in records)):
                assert f"]({place})" in entry, (stem, place)
                assert (sources / place).is_file()
    assert stems > 100


def test_the_scorecard_has_every_row(sources):
    rows = json.loads((ROOT / "figures/5_scorecard/scorecard.json").read_text())["rows"]
    shown = [line for line in (sources / "scorecard.md").read_text().splitlines() if line.startswith("| ")][1:]
    assert len(shown) == len(rows)
    for row, line in zip(rows, shown, strict=True):
        assert (f"{row['measured']['estimate']:.3f}" if row["measured"] else "–") in line
        assert f"**{row['verdict'].split(' (')[0]}**" in line


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("x * y of `step`s, p_i | q", r"x \* y of ``step``\ s, p\_i \| q"),
        ("A list:\n- one `a`\n- two\n  lines\nNo more.", "A list:\n\n- one ``a``\n\n- two\n  lines\n\nNo more."),
        ("Said.\n\na = load(1)\na.save()  # `x`", "Said.\n\n::\n\n    a = load(1)\n    a.save()  # `x`"),
    ],
)
def test_docstrings_are_shown_as_they_were_written(told, shown):
    spec = importlib.util.spec_from_file_location("conf", ROOT / "docs/conf.py")
    conf = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conf)
    assert conf.plain_docstring(told) == shown


def test_the_lock_of_the_site_pins_what_it_asks_for_and_names_no_index():
    lines = (ROOT / "docs/requirements.lock").read_text().splitlines()
    pinned = {canonicalize_name(Requirement(line).name): str(Requirement(line).specifier) for line in lines}
    assert all(pin.startswith("==") for pin in pinned.values())
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["site"]
    assert {canonicalize_name(Requirement(one).name) for one in asked} <= pinned.keys()


@built
def test_no_link_within_the_site_is_broken_and_nothing_is_loaded_from_elsewhere():
    faults = {page.relative_to(SITE).as_posix(): sorted(broken_links(page)) for page in SITE.rglob("*.html")}
    assert not {page: found for page, found in faults.items() if found}


@built
@opened
def test_no_page_has_an_error_a_red_equation_or_a_table_wider_than_its_column(told):
    assert len(told["faults"]) > 40
    assert not {page: found for page, found in told["faults"].items() if found}


@built
@opened
def test_the_scorecard_can_be_filtered_and_the_site_searched(told):
    rows = json.loads((ROOT / "figures/5_scorecard/scorecard.json").read_text())["rows"]
    first = [row for row in rows if row["paper"] == rows[0]["paper"]]
    expected = {"all": len(rows), "papers": [rows[0]["paper"]], "one paper": len(first), "none": 0}
    assert told["filter"] == expected
    assert "notebooks/1_infodiffusion/1.1_noise_schedule.html" in told["search"]


@opened
@pytest.mark.skipif(not PYTHON.exists(), reason="build/site-venv is not there: `make site` makes it")
def test_each_fault_of_a_broken_page_is_found(tmp_path):
    (tmp_path / "broken.html").write_text(BROKEN)
    (tmp_path / "other.html").write_text('<a href="none.html"></a><a href="broken.html#none"></a>')
    faults = " ".join(browse(tmp_path, "broken.html")["faults"]["broken.html"])
    for fault in (
        "an equation in red",
        "an equation not set",
        "a table of 900",
        "none.png",
        "from outside: http://example",
    ):
        assert fault in faults
    assert "of a script" in faults
    assert "console: said" in faults
    assert sorted(broken_links(tmp_path / "other.html")) == ["broken.html#none", "none.html"]
    assert {"http://example.invalid/script.js", "none.png"} <= set(broken_links(tmp_path / "broken.html"))
