"""The parts of the README that a script writes: the table of notebooks, and the verdicts on all claims."""

import argparse
import re

from lib import contract, paths, scorecard, tables
from lib.errors import UserError, command
from lib.files import write_text

README = paths.ROOT / "README.md"


def notebook_table() -> str:
    """Return the Markdown table of notebook, paper item, minutes and what it writes."""
    lines = ["| Notebook | Paper item | Minutes (`smoke` / `cpu`) | Writes under `figures/` |", "|---|---|---|---|"]
    for promise in contract.all_notebooks():
        link = f"[{promise.name.rsplit('/', 1)[-1]}](notebooks/{promise.name}.ipynb)"
        written = ", ".join(f"`{stem.rsplit('/', 1)[-1]}`" for stem in promise.writes) or "–"
        minutes = f"{promise.minutes.smoke:g} / {promise.minutes.cpu:g}"
        lines.append(f"| {link} | {tables.escape_markdown(promise.item)} | {minutes} | {written} |")
    return "\n".join(lines)


def renewed(text: str) -> str:
    """Return the README's text with every generated part written anew; `UserError` where a marker is missing."""
    parts = {"notebooks": notebook_table(), "scorecard": scorecard.markdown()}
    for name, content in parts.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise UserError(f"README.md: the markers 'begin {name}' and 'end {name}' are missing: put them back")
        text = pattern.sub(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
    return text


def main() -> int:
    """Write the generated parts, or with --check only compare; returns 1 where they differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    check = parser.parse_args().check
    text = README.read_text(encoding="utf-8")
    new = renewed(text)
    if check and new != text:
        raise UserError("README.md: its generated parts are out of date: run `python -m lib.readme`")
    if new != text:
        write_text(README, new)
    return 0


if __name__ == "__main__":
    command(main)
