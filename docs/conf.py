"""Sphinx reads this: the site of the project, from the pages that `pages.py` has laid out in build/site-source.

`make site` runs both. Nothing is executed: notebooks come with their committed outputs, and the API pages are read from
the source of `lib` without importing it. Nothing is fetched when a page is opened either: MathJax lies in the build.
"""

import ast
import inspect
import re
import shutil
import textwrap
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]

project = "Four papers, reproduced"
author = "the contributors"
html_title = project
language = "en"
root_doc = "index"
extensions = ["myst_nb", "sphinx.ext.mathjax", "sphinx_design", "autoapi.extension"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}

# Notebooks as they are committed.
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, Any] = {}  # none keeps a state of its widgets, and their scripts would be fetched
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
myst_update_mathjax = False

# The rooms that somebody imports for a model of their own, and what these stand on.
autoapi_dirs = [str(ROOT / "lib")]
autoapi_root = "api"
autoapi_add_toctree_entry = False
autoapi_options = ["members", "undoc-members", "show-inheritance", "show-module-summary"]
autoapi_member_order = "bysource"
autoapi_own_page_level = "module"
autoapi_python_class_content = "both"
ROOMS = ["api", "beacons", "causal_lm", "diffusion", "distillation", "editing", "intervals", "lemoe", "seq2seq", "text"]
autoapi_ignore = [
    *(f"*/lib/{found.name}/*" for found in (ROOT / "lib").iterdir() if found.is_dir() and found.name not in ROOMS),
    *(f"*/lib/{found.name}" for found in (ROOT / "lib").glob("*.py") if found.name != "__init__.py"),
    "*/lib/api/__main__.py",
]

suppress_warnings = [
    "autoapi.python_import_resolution",  # of rooms that have no page
    "ref.python",  # an annotation names a class of which there are two: it stays without a link
    "misc.highlighting_failure",  # a block that is not the language that it names: it stays without colours
]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["filter.js"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
html_theme_options = {"top_of_page_buttons": []}

# MathJax: what a page with TeX loads, out of the package that carries it.
MATHJAX = ("tex-chtml.js", "input/tex", "output/chtml")
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {"options": {"enableMenu": False}}


def copy_mathjax(app: "Sphinx", failure: Exception | None) -> None:
    """Put MathJax beside the other static files once the pages are written."""
    if failure is not None:
        return
    package = metadata.distribution("sphinx-mathjax-offline")
    source = Path(str(package.locate_file("sphinx-mathjax-offline/static/mathjax")))
    target = Path(app.outdir, "_static", "mathjax")
    for name in MATHJAX:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        else:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)


def plain_docstring(text: str) -> str:
    """Return a docstring, which is plain text with `code` and lists, as reStructuredText that shows it so."""
    return "\n\n".join(map(_paragraph, re.split(r"\n\s*\n", inspect.cleandoc(text))))


def _paragraph(text: str) -> str:
    """Set code of several lines as such, and the blank lines around the items of a list."""
    lines = text.split("\n")
    if not any(line.startswith("- ") for line in lines):
        return "::\n\n" + textwrap.indent(text, "    ") if _is_code(text) else _inline(text)
    told: list[str] = []
    for line in lines:
        if told and not line.startswith(" "):
            told.append("")
        told.append(line)
    return _inline("\n".join(told))


def _is_code(text: str) -> bool:
    """Whether a paragraph is an example: some lines of Python that call or set something, or lines set in."""
    if re.search(r"^ ", text, re.MULTILINE):
        return True
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return "\n" in text and bool(re.search("[(=]", text))


def _inline(text: str) -> str:
    """Set what stands between backquotes as code, and escape what would be markup elsewhere."""
    parts = re.split(r"(`+[^`]+`+)", text)
    for place, part in enumerate(parts):
        if not place % 2:
            parts[place] = re.sub(r"[\\*|_]", r"\\\g<0>", part)
            continue
        # Code is markup only where nothing touches it: `step`s.
        before = "\\ " if re.search(r"\S$", parts[place - 1]) else ""
        after = "\\ " if re.match(r"\S", parts[place + 1]) else ""
        parts[place] = f"{before}``{part.strip('`').strip()}``{after}"
    return "".join(parts)


def tell_plainly(app: "Sphinx", what: str, name: str, told: Any, skip: bool, options: list[str]) -> bool | None:
    """Change the docstring of an object that gets a place on the API pages; leave out what is private."""
    if not getattr(told, "is_plain", False):
        told.is_plain = True
        told.docstring = plain_docstring(told.docstring)
    return None


def setup(app: "Sphinx") -> None:
    """Connect both to Sphinx."""
    app.connect("build-finished", copy_mathjax)
    app.connect("autoapi-skip-member", tell_plainly)
