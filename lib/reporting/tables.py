"""Tables: pure functions of records, shown in the notebook and written as CSV, Markdown, LaTeX and JSON."""

import html
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from lib import paths
from lib.files import write_together
from lib.intervals import Interval
from lib.reporting import provenance

MISSING = "–"
# "1_infodiffusion/table_1": a series and a name, the same under the work folder and under figures/.
STEM = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)+")
# Enough to compare runs, few enough to hide the last bits, which differ between processors.
DIGITS = 10
P_VALUE = "p"  # the format of a column of p-values
LEAST_P = 0.001  # a smaller one is told as such: what is beyond rests on the tails of an assumed distribution

Best = Literal["highest", "lowest"]

INTERVAL = r"\[([^\[\], ]+), ([^\[\], ]+)\]"

MARKDOWN = str.maketrans({symbol: "\\" + symbol for symbol in "\\|*_`<"})
# Beyond the reserved characters: signs that a plain pdflatex does not know, or sets as something else.
LATEX_SIGNS = {"–": "--", "—": "---", "−": "$-$", "<": "$<$", ">": "$>$", "|": r"\textbar{}", '"': r"\textquotedbl{}"}
LATEX_SIGNS |= {"±": r"$\pm$", "×": r"$\times$", "≤": r"$\leq$", "≥": r"$\geq$", "→": r"$\rightarrow$"}
LATEX_SIGNS |= {"α": r"$\alpha$", "β": r"$\beta$", "λ": r"$\lambda$", "μ": r"$\mu$", "ρ": r"$\rho$"}
LATEX_SIGNS |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX = str.maketrans(LATEX_SIGNS | {symbol: "\\" + symbol for symbol in "&%$#_{}"})
LATEX_UNKNOWN = re.compile("[^\x20-\u017f‘’“”…]")


@dataclass(frozen=True)
class Table:
    """A table with its caption, its place `stem` under the figures folder, and a format such as ".3f" per column.

    Cells are numbers, text, `Interval` or missing (None, NaN); floats without a format get ".3f", p-values have the
    format `P_VALUE`. `details` are further
    entries of the JSON file. `keys` are the columns that tell the rows apart, by which two versions of the table are
    compared; by default the fewest leading ones, of text or whole numbers, that do, and none where none do. In HTML the
    best number of each column of `best` is bold, of each value of the column `group` where that is given; rows named in
    `aside`, by their first cell but that of the group, are no competitors. Raises
    `ValueError` for an empty caption, a bad stem, repeated columns, and a format or a key without its column.
    """

    frame: pd.DataFrame
    caption: str
    stem: str
    formats: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    keys: Sequence[str] | None = None
    best: Mapping[str, Best] = field(default_factory=dict)
    group: str | None = None
    aside: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_stem(self.stem)
        if not self.caption.strip():
            raise ValueError(f"{self.stem}: a table needs a caption")
        if not self.frame.columns.is_unique:
            raise ValueError(f"{self.stem}: repeated columns in {list(self.frame.columns)}")
        if unknown := set(self.formats) - set(self.frame.columns):
            raise ValueError(f"{self.stem}: formats of columns that are not there: {sorted(unknown)}")
        if unknown := {*(self.keys or ()), *self.best, *filter(None, [self.group])} - set(self.frame.columns):
            raise ValueError(f"{self.stem}: keys that are no columns: {sorted(unknown)}")

    def show(self) -> None:
        """Display the table in a notebook, as HTML and as plain text; equal tables give equal output."""
        from IPython.display import display

        display({"text/plain": self.plain(), "text/html": self.html()}, raw=True)

    def cells(self) -> pd.DataFrame:
        """The table as the reader sees it: every cell formatted as text, "–" where a number is missing."""
        texts = {
            str(name): [format_cell(cell, self.formats.get(name)) for cell in column]
            for name, column in self.frame.items()
        }
        return pd.DataFrame(texts, dtype=object)

    def plain(self) -> str:
        """Caption and aligned columns as text."""
        return f"{provenance.captioned(self.caption)}\n\n{self.cells().to_string(index=False)}"

    def html(self) -> str:
        """The table as an HTML element with a caption: escaped, without style or random ids.

        An interval breaks before its brackets, never inside them.
        """
        cells = self.cells().replace(INTERVAL, "[\\1,\u00a0\\2]", regex=True)
        if self.best:
            cells = cells.map(lambda text: html.escape(text, quote=False))
            for row, name in self._winners():
                cells.loc[row, name] = f"<b>{cells.loc[row, name]}</b>"
        element = cells.to_html(index=False, border=0, escape=not self.best)
        caption = html.escape(provenance.captioned(self.caption))
        return element.replace(">", f">\n  <caption>{caption}</caption>", 1)

    def _winners(self) -> Iterator[tuple[int, str]]:
        """Place and column of the cells with the best number of their group; equal ones all win."""
        frame = self.frame.reset_index(drop=True)
        names = frame[next(name for name in frame.columns if name != self.group)]
        groups = frame[self.group] if self.group else pd.Series("", index=frame.index)
        for name, way in self.best.items():
            numbers = frame[name].map(lambda cell: cell.estimate if isinstance(cell, Interval) else cell)
            numbers = pd.to_numeric(numbers.mask(names.isin(list(self.aside))))
            best = numbers.groupby(groups, sort=False).transform("max" if way == "highest" else "min")
            yield from ((row, str(name)) for row in numbers.index[numbers == best])

    def markdown(self) -> str:
        """Caption and table in Markdown, with its special characters escaped."""
        head, *body = (f"| {' | '.join(cells)} |" for cells in self._escaped(escape_markdown))
        rule = "|" + " --- |" * len(self.frame.columns)
        return "\n".join([escape_markdown(provenance.captioned(self.caption)), "", head, rule, *body]) + "\n"

    def latex(self) -> str:
        r"""A `table` environment for the booktabs package, with caption and `\label{tab:<stem>}`."""
        head, *body = (rf"{' & '.join(cells)} \\" for cells in self._escaped(escape_latex))
        sides = "".join("l" if _is_text(column) else "r" for _, column in self.frame.items())
        caption = escape_latex(provenance.captioned(self.caption))
        start = [r"\begin{table}[t]", r"\centering", rf"\caption{{{caption}}}"]
        start += [rf"\label{{tab:{self.stem}}}", rf"\begin{{tabular}}{{{sides}}}", r"\toprule", head, r"\midrule"]
        return "\n".join([*start, *body, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"

    def rows(self) -> list[dict[str, Any]]:
        """The rows as plain Python values with 10 significant digits; a missing cell is None."""
        records = self.frame.to_dict(orient="records")
        return [
            {str(name): _plain_cell(cell, f"{self.stem}, row {number}, {name}") for name, cell in record.items()}
            for number, record in enumerate(records)
        ]

    def csv(self) -> str:
        """The rows as CSV with 10 significant digits; an interval fills three columns: itself, `_low` and `_high`."""
        flat: list[dict[str, Any]] = []
        for row in self.rows():
            flat.append({})
            for name, cell in row.items():
                if isinstance(cell, dict):
                    flat[-1] |= {name: cell["estimate"], f"{name}_low": cell["low"], f"{name}_high": cell["high"]}
                else:
                    flat[-1][name] = cell
        # Objects, so that an integer beside a missing cell stays an integer.
        return pd.DataFrame(flat, dtype=object).to_csv(index=False, lineterminator="\n")

    def save(self, profile: str) -> None:
        """Write stem.csv, .md, .tex, .json into the work folder of `profile`, all of them or none.

        Raises `ValueError`, before anything is written, for `keys` that do not tell the rows apart, and `UserError`
        where the disk does not take them.
        """
        base = paths.work_figures(profile) / self.stem
        caption = provenance.captioned(self.caption)
        content = {"caption": caption, "profile": profile, **plain(self.details, self.stem)}
        content |= {"columns": [str(name) for name in self.frame.columns], "keys": self._keys(), "rows": self.rows()}
        # Everything is made before anything is written: a bad cell leaves no half-written set.
        texts = {".csv": self.csv(), ".md": self.markdown(), ".tex": self.latex()}
        made = {base.with_suffix(suffix): text.encode() for suffix, text in texts.items()}
        write_together(made | {base.with_suffix(".json"): provenance.json_of(content)})

    def _keys(self) -> list[str]:
        if self.keys is not None:
            if self.keys and self.frame.duplicated(list(self.keys)).any():
                raise ValueError(f"{self.stem}: rows that the keys {list(self.keys)} do not tell apart")
            return [str(name) for name in self.keys]
        leading = itertools.takewhile(lambda name: all(map(_is_label, self.frame[name])), self.frame.columns)
        found: list[str] = []
        for name in leading:
            found.append(name)
            if not self.frame.duplicated(found).any():
                return [str(one) for one in found]
        return []

    def _escaped(self, escape: Callable[[str], str]) -> list[list[str]]:
        """Head and body as lists of escaped cells."""
        cells = self.cells()
        return [[escape(cell) for cell in line] for line in [list(cells.columns), *cells.values.tolist()]]


def beside_paper(
    ours: pd.DataFrame,
    paper: pd.DataFrame,
    keys: Sequence[str],
    metrics: Sequence[str] | Mapping[str, str],
    *,
    differs: str,
    caption: str,
    stem: str,
    formats: Mapping[str, str] | None = None,
    difference: bool = True,
    whose: str = "paper",
) -> Table:
    """Our rows beside the paper's: per metric the columns "here", `whose` and "difference" (here - paper).

    Without `difference` that column is left out: levels on other data and sizes have none that means something.

    Rows are matched by `keys` and keep our order; a number the paper does not give is "–". Metrics may be `Interval`;
    as a mapping, `metrics` gives the name of each column for readers. `differs` says what differs in the set-up and
    ends the caption. Without any row of ours the table says so. Raises `ValueError` when `differs` is empty, a column
    is missing, a row is there twice, or none of our rows is in the paper.
    """
    if not differs.strip():
        raise ValueError(f"{stem}: say in `differs` what differs from the paper's set-up (model, data, size)")
    titles = dict(metrics) if isinstance(metrics, Mapping) else {metric: metric for metric in metrics}
    keys, metrics = list(keys), list(titles)
    for name, frame in {"ours": ours, "paper": paper}.items():
        if missing := [column for column in keys + metrics if column not in frame.columns]:
            raise ValueError(f"{stem}: {name} has no column {missing}; it has {list(frame.columns)}")
        if frame.duplicated(keys).any():
            raise ValueError(f"{stem}: {name} holds a row twice: {frame[frame.duplicated(keys)][keys].values.tolist()}")
    caption = f"{caption.rstrip()} Differs from the paper: {differs.strip()}"
    if ours.empty:
        return Table(pd.DataFrame([{keys[0]: "none recorded"}], dtype=object), caption, stem)
    published = paper.set_index(keys)[metrics].to_dict(orient="index")
    rows, found = [], 0
    for record in ours[keys + metrics].to_dict(orient="records"):
        place = tuple(record[key] for key in keys)
        theirs = published.get(place if len(keys) > 1 else place[0], {})
        found += bool(theirs)
        row = {key: record[key] for key in keys}
        for metric in metrics:
            row |= _beside(titles[metric], record[metric], theirs.get(metric), difference, whose)
        rows.append(row)
    if not found:
        raise ValueError(f"{stem}: no row of ours is in the paper by {keys}; do the names agree?")
    return Table(
        frame=pd.DataFrame(rows, dtype=object),
        caption=caption,
        stem=stem,
        formats=_formats_beside(titles, formats or {}, difference, whose),
    )


def format_cell(cell: Any, spec: str | None = None) -> str:
    """A cell as text: floats by `spec` (default ".3f"), intervals as "0.412 [0.398, 0.425]", missing as "–".

    The `spec` `P_VALUE` is that of p-values: "0.012", and "< .001" below that.
    """
    if spec == P_VALUE and not is_missing(cell):
        return "< .001" if cell < LEAST_P else f"{cell:.3f}"
    if isinstance(cell, Interval):
        return "{0:{3}} [{1:{3}}, {2:{3}}]".format(*cell, spec or ".3f")
    if is_missing(cell):
        return MISSING
    value = cell.item() if hasattr(cell, "item") else cell
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format(value, spec or ".3f")
    return format(value, spec) if spec and isinstance(value, int) else str(value)


def is_missing(cell: Any) -> bool:
    """Whether a cell holds no value: None, NaN or one of pandas' own marks."""
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and math.isnan(cell))


def plain(value: Any, where: str) -> Any:
    """`value` as JSON types: numpy, torch and pandas converted, floats rounded to 10 significant digits.

    A DataFrame becomes its columns, an `Interval` an object. Raises `ValueError` naming `where` for NaN and infinities,
    `TypeError` for what JSON cannot hold.
    """
    if isinstance(value, Interval):
        return plain(value._asdict(), where)
    if isinstance(value, pd.DataFrame):
        return {str(name): plain(column, f"{where}/{name}") for name, column in value.items()}
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}/{key}") for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}/{position}") for position, item in enumerate(value)]
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where}: {value} is not a number that can be kept")
        return float(f"{value:.{DIGITS}g}")
    if value is None or isinstance(value, bool | int | str):
        return value
    raise TypeError(f"{where}: cannot keep a {type(value).__name__}")


def check_stem(stem: str) -> None:
    """Raise `ValueError` unless `stem` is a series and a name, such as "1_infodiffusion/noise_schedule"."""
    if not STEM.fullmatch(stem):
        raise ValueError(f"{stem!r} is no stem: write series/name in small letters, digits and underscores")


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return " ".join(text.split()).translate(MARKDOWN)


def escape_latex(text: str) -> str:
    """Text that LaTeX sets as it is, on one line; a sign that a plain pdflatex refuses stands as [U+20B9].

    Words of a model or of a user's file may hold any sign. Where one of ours does, it belongs in `LATEX_SIGNS`.
    """
    escaped = " ".join(text.split()).translate(LATEX)
    return LATEX_UNKNOWN.sub(lambda sign: f"[U+{ord(sign.group()):04X}]", escaped)


def _plain_cell(cell: Any, where: str) -> Any:
    return None if is_missing(cell) else plain(cell, where)


def _is_label(cell: Any) -> bool:
    return isinstance(cell, str | int | np.integer) and not isinstance(cell, bool)


def _is_text(column: pd.Series) -> bool:
    return any(isinstance(cell, str) for cell in column)


def _beside(metric: str, ours: Any, theirs: Any, difference: bool, whose: str) -> dict[str, Any]:
    mine = ours.estimate if isinstance(ours, Interval) else ours
    found = None if is_missing(mine) or is_missing(theirs) else mine - theirs
    columns = {f"{metric}, here": ours, f"{metric}, {whose}": theirs}
    return columns | ({f"{metric}, difference": found} if difference else {})


def _formats_beside(
    titles: Mapping[str, str], formats: Mapping[str, str], difference: bool, whose: str
) -> dict[str, str]:
    specs = {title: formats.get(metric, ".3f") for metric, title in titles.items()}
    sides = {f"{title}, {side}": spec for title, spec in specs.items() for side in ("here", whose)}
    sides |= {name: spec for name, spec in formats.items() if name not in titles}
    return sides | ({f"{title}, difference": f"+{spec}" for title, spec in specs.items()} if difference else {})
