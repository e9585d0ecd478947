"""The parts of the READMEs that a script writes from what the notebooks left under figures/.

The project's README has what was found, each notebook as a question and its answer, and a sentence on each claim. That
of a series, beside its notebooks, has their contracts and the verdicts with their numbers.
"""

import argparse
from pathlib import Path

from lib import paths
from lib.errors import UserError, command
from lib.files import write_text
from lib.reporting import pages, tables
from lib.running import answers, contract, findings, plain_claims, scorecard

READMES = (paths.ROOT / "README.md", *(paths.NOTEBOOKS / series / "README.md" for series in scorecard.PAPERS))


def notebook_table(folder: Path) -> str:
    """Return the Markdown table of the notebooks below a folder, with links from there."""
    lines = ["| Notebook | Paper item | Minutes (`smoke` / `cpu`) | Writes under `figures/` |", "|---|---|---|---|"]
    for promise in contract.all_notebooks():
        if not promise.notebook.is_relative_to(folder):
            continue
        link = f"[{promise.notebook.stem}]({promise.notebook.relative_to(folder).as_posix()})"
        written = ", ".join(f"`{stem.rsplit('/', 1)[-1]}`" for stem in promise.writes) or "–"
        minutes = f"{promise.minutes.smoke:g} / {promise.minutes.cpu:g}"
        lines.append(f"| {link} | {tables.escape_markdown(promise.item)} | {minutes} | {written} |")
    return "\n".join(lines)


def renewed(text: str, readme: Path) -> str:
    """Return a README's text with every generated part written anew; `UserError` where a marker is missing."""
    folder = readme.parent
    if readme == READMES[0]:
        parts = {"findings": findings.markdown(), "notebooks": answers.markdown(folder)}
        parts["scorecard"] = plain_claims.markdown(folder)
    else:
        parts = {"notebooks": notebook_table(folder), "scorecard": scorecard.markdown(folder)}
    return pages.renewed(text, readme, parts)


def outdated() -> dict[Path, str]:
    """Return the READMEs whose generated parts are not as they would be written now, each with its new text."""
    texts = {readme: _text(readme) for readme in READMES}
    new = {readme: renewed(text, readme) for readme, text in texts.items()}
    return {readme: text for readme, text in new.items() if text != texts[readme]}


def _text(readme: Path) -> str:
    try:
        return readme.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UserError(f"{paths.relative(readme)}: {reason}: restore it from git") from error


def renew() -> list[Path]:
    """Write the generated parts of all READMEs anew and return those that changed."""
    found = outdated()
    for readme, text in found.items():
        write_text(readme, text)
    return list(found)


def main() -> int:
    """Write the generated parts, or with --check only compare: `UserError` names the first that differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    if not parser.parse_args().check:
        renew()
    for readme in outdated():
        raise UserError(
            f"{paths.relative(readme)}: its generated parts are out of date: run `python -m lib.running.readme`"
        )
    return 0


if __name__ == "__main__":
    command(main)
