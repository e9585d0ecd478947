"""Tables as the reader sees them, their files read back by other parsers, and the paper's numbers."""

import csv
import errno
import io
import json
import os
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from lib import paths
from lib.errors import UserError
from lib.intervals import Interval
from lib.reporting import published, tables
from lib.reporting.tables import Table

AWKWARD = r"50 % of a|b & c_d #1 $x {y} ~ ^ \n <b>*_` – ≥ λ"


def table(**changes) -> Table:
    rows = [
        {
            "model": "InfoDiffusion",
            "bleu": Interval(0.4123456789012, 0.398, 0.425),
            "seeds": 3,
            "length": np.float32(9.5),
        },
        {"model": AWKWARD, "bleu": 0.52, "seeds": None, "length": float("nan")},
    ]
    given = {
        "frame": pd.DataFrame(rows, dtype=object),
        "caption": f"Caption {AWKWARD}",
        "stem": "1_infodiffusion/table_1",
    }
    return Table(**(given | {"formats": {"length": ".1f"}} | changes))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REPRODUCTION_WORK_ROOT", str(tmp_path))
    return tmp_path / "work/smoke/figures/1_infodiffusion"


def test_cells_are_formatted_for_the_reader():
    cells = table().cells()
    assert cells.iloc[0].tolist() == ["InfoDiffusion", "0.412 [0.398, 0.425]", "3", "9.5"]
    assert cells.iloc[1].tolist() == [AWKWARD, "0.520", "–", "–"]


@pytest.mark.parametrize(
    ("cell", "spec", "text"),
    [
        (0.41249, None, "0.412"),
        (-0.02, "+.3f", "-0.020"),
        (0.02, "+.3f", "+0.020"),
        (Interval(1, 0.5, 1.5), ".1f", "1.0 [0.5, 1.5]"),
        (np.int64(7), None, "7"),
        (7, ".1f", "7.0"),
        (True, None, "yes"),
        (pd.NA, None, "–"),
        ("text", ".3f", "text"),
    ],
)
def test_format_cell(cell, spec, text):
    assert tables.format_cell(cell, spec) == text


def test_csv_is_read_back_at_full_precision():
    rows = list(csv.DictReader(io.StringIO(table().csv())))
    assert list(rows[0]) == ["model", "bleu", "bleu_low", "bleu_high", "seeds", "length"]
    assert (rows[0]["bleu"], rows[0]["bleu_low"], rows[0]["seeds"]) == ("0.4123456789", "0.398", "3")
    assert (rows[1]["model"], rows[1]["bleu"], rows[1]["bleu_low"], rows[1]["length"]) == (AWKWARD, "0.52", "", "")


def test_html_breaks_no_line_inside_an_interval():
    html = Table(pd.DataFrame({"a": [Interval(0.5, 0.25, 0.75), "[x, y, z]"]}), "c", "1_a/b").html()
    assert "0.500 [0.250,\u00a00.750]" in html
    assert "[x, y, z]" in html


def test_html_holds_the_cells_and_the_caption_as_text():
    root = ElementTree.fromstring(table().html())
    assert root.find("caption").text == f"Caption {AWKWARD}"
    assert [cell.text for cell in root.find("tbody")[1]] == [AWKWARD, "0.520", "–", "–"]
    assert "id=" not in table().html()


def test_long_cells_are_not_cut():
    long = Table(pd.DataFrame({"text": ["word " * 60]}), "Caption", "a/b")
    assert all(("word " * 60).strip() in text for text in (long.html(), long.plain(), long.markdown(), long.latex()))


def test_markdown_bars_do_not_make_columns():
    from markdown_it import MarkdownIt

    head, body = table().markdown().split("\n\n", 1)
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(body)
    inline = [token.children for token in tokens if token.type == "inline"]
    texts = ["".join(child.content for child in children) for children in inline]
    assert len(texts) == 12
    assert texts[8] == AWKWARD
    assert {child.type for children in inline for child in children} <= {"text", "text_special"}
    assert "".join(c.content for c in MarkdownIt().parseInline(head)[0].children) == f"Caption {AWKWARD}"


def read_latex(text: str) -> str:
    """What LaTeX would typeset, by the few rules that an escaped cell may use; anything else is an error."""
    out, rest = "", text
    named = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textbar": "|", "textquotedbl": '"'}
    maths = {r"\geq": "≥", r"\leq": "≤", r"\lambda": "λ", r"\pm": "±", r"\times": "×", "<": "<", ">": ">", "-": "−"}
    while rest:
        if match := re.match(r"\\([a-z]+)\{\}", rest):
            out += named[match[1]]
        elif match := re.match(r"\\([&%$#_{}])", rest):
            out += match[1]
        elif match := re.match(r"\$([^$]+)\$", rest):
            out += maths[match[1]]
        elif match := re.match(r"--", rest):
            out += "–"
        elif match := re.match(r"[^&%$#_{}~^\\]", rest):
            out += match[0]
        else:
            raise AssertionError(f"not safe in LaTeX: {rest!r}")
        rest = rest[match.end() :]
    return out


def test_latex_sets_what_was_written():
    lines = table().latex().splitlines()
    body = lines[lines.index(r"\midrule") + 1 : lines.index(r"\bottomrule")]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body] == [3, 3]
    assert read_latex(body[1].split(" & ")[0]) == AWKWARD
    caption = next(line for line in lines if line.startswith(r"\caption{"))
    assert read_latex(caption.removeprefix(r"\caption{")[:-1]) == f"Caption {AWKWARD}"
    assert r"\begin{tabular}{lrrr}" in lines
    assert [line for line in lines if line.startswith(r"\begin")] == [r"\begin{table}[t]", r"\begin{tabular}{lrrr}"]
    assert [line for line in lines if line.startswith(r"\end")] == [r"\end{tabular}", r"\end{table}"]


def test_a_sign_that_pdflatex_cannot_set_stands_by_its_number_in_latex():
    assert tables.escape_latex("5 ₹ & 仁") == r"5 [U+20B9] \& [U+4EC1]"


def test_tables_of_this_project_need_no_such_sign():
    made = list(paths.FIGURES.rglob("*.tex"))
    assert len(made) > 20
    assert not [file.name for file in made if "[U+" in file.read_text(encoding="utf-8")]


def test_saved_files(folder):
    table(details={"note": np.float64(0.5)}).save("smoke")
    assert {path.name for path in folder.iterdir()} == {f"table_1.{kind}" for kind in ("csv", "md", "tex", "json")}
    content = json.loads((folder / "table_1.json").read_text())
    assert (content["profile"], content["note"]) == ("smoke", 0.5)
    assert content["columns"] == ["model", "bleu", "seeds", "length"]
    interval = {"estimate": 0.4123456789, "low": 0.398, "high": 0.425}
    assert content["rows"][0] == {"model": "InfoDiffusion", "bleu": interval, "seeds": 3, "length": 9.5}
    assert content["rows"][1]["length"] is None


@pytest.mark.parametrize("number", range(4))
def test_the_four_files_are_replaced_together_or_not_at_all(folder, monkeypatch, number):
    table().save("smoke")
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(before) == 4
    real, calls = os.replace, []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == number + 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(*arguments)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(UserError, match="no space left"):
        table(caption="Another one.").save("smoke")
    assert {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_saving_again_gives_the_same_bytes_and_a_bad_cell_writes_nothing(folder):
    table().save("smoke")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    table().save("smoke")
    bad = pd.DataFrame({"bleu": [float("inf")]})
    with pytest.raises(ValueError, match=r"row 0, bleu: inf"):
        table(frame=bad, formats={}).save("smoke")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"caption": " "}, "caption"),
        ({"stem": "table"}, "no stem"),
        ({"stem": "../x/table"}, "no stem"),
        ({"formats": {"rouge": ".2f"}}, "rouge"),
        ({"frame": pd.DataFrame([[1, 2]], columns=["a", "a"]), "formats": {}}, "repeated"),
    ],
)
def test_bad_tables_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        table(**changes)


OURS = pd.DataFrame(
    [
        {"dataset": "Paraphrase", "model": "InfoDiffusion", "bleu": Interval(0.41, 0.4, 0.42), "length": 9.0},
        {"dataset": "Paraphrase", "model": "copy the source", "bleu": 0.52, "length": 10.0},
        {"dataset": "Paraphrase", "model": "DiffuSeq", "bleu": None, "length": 11.0},
    ]
)


def beside(ours=OURS, paper=None, differs="3.5 M parameters, Bible text.", **changes) -> Table:
    paper = published.read("infodiffusion_table1") if paper is None else paper
    given = {"caption": "Table 1.", "stem": "1_infodiffusion/table_1", "formats": {"length": ".1f"}}
    return tables.beside_paper(
        ours, paper, ["dataset", "model"], ["bleu", "length"], differs=differs, **(given | changes)
    )


def test_beside_paper_matches_rows_by_their_keys():
    shown = beside().cells().set_index("model")
    assert shown.loc["InfoDiffusion", ["bleu, here", "bleu, paper", "bleu, difference"]].tolist() == [
        "0.410 [0.400, 0.420]",
        "0.266",
        "+0.144",
    ]
    assert shown.loc["InfoDiffusion", "length, difference"] == "-2.4"
    assert shown.loc["copy the source", ["bleu, paper", "bleu, difference"]].tolist() == ["–", "–"]
    assert shown.loc["DiffuSeq", ["bleu, here", "bleu, paper", "bleu, difference"]].tolist() == ["–", "0.241", "–"]
    assert beside().caption == "Table 1. Differs from the paper: 3.5 M parameters, Bible text."


def test_beside_paper_takes_names_for_readers():
    frame, paper = pd.DataFrame({"method": ["a"], "avg": [0.5]}), pd.DataFrame({"method": ["a"], "avg": [0.25]})
    options = {"differs": "d", "caption": "c", "stem": "3_lemoe/table", "formats": {"avg": ".1f"}}
    made = tables.beside_paper(frame, paper, ["method"], {"avg": "Average"}, **options)
    assert made.cells().iloc[0].to_dict() == {
        "method": "a",
        "Average, here": "0.5",
        "Average, paper": "0.2",
        "Average, difference": "+0.2",
    }


def test_beside_paper_without_any_row_of_ours_says_so():
    ours, paper = pd.DataFrame(columns=["method", "avg"]), pd.DataFrame([{"method": "A", "avg": 0.5}])
    made = tables.beside_paper(ours, paper, ["method"], ["avg"], differs="data.", caption="c.", stem="3_lemoe/table")
    assert made.frame.to_dict("list") == {"method": ["none recorded"]}
    assert made.caption == "c. Differs from the paper: data."


def test_beside_paper_works_with_one_key():
    frame = pd.DataFrame({"method": ["LEMoE"], "avg": [0.9]})
    paper = published.read("lemoe_batch")
    made = tables.beside_paper(frame, paper, ["method"], ["avg"], differs="d", caption="c", stem="3_lemoe/table")
    assert made.rows()[0]["avg, difference"] == pytest.approx(-0.06)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"differs": " "}, "differs"),
        ({"ours": OURS.drop(columns="bleu")}, "ours has no column"),
        ({"ours": pd.concat([OURS, OURS[:1]])}, "row twice"),
        ({"ours": OURS.assign(dataset="Bible")}, "do the names agree"),
        ({"paper": pd.DataFrame(columns=["dataset", "model", "bleu"])}, "paper has no column"),
    ],
)
def test_beside_paper_refuses_what_would_mislead(changes, message):
    with pytest.raises(ValueError, match=message):
        beside(**changes)


def test_plain_converts_and_names_the_place_of_a_nan():
    kept = tables.plain({"a": np.arange(2), "b": pd.DataFrame({"c": [1 / 3]}), 3: (None, True)}, "x")
    assert kept == {"a": [0, 1], "b": {"c": [0.3333333333]}, "3": [None, True]}
    with pytest.raises(ValueError, match="x/a/1: nan"):
        tables.plain({"a": np.array([0, np.nan])}, "x")
    with pytest.raises(TypeError, match="x/a"):
        tables.plain({"a": object()}, "x")


def test_every_published_file_is_read_and_has_its_source():
    names = {path.stem for path in paths.PAPER.glob("*.csv")}
    sources = re.findall(r"^\| `(\w+)\.csv` \|", (paths.PAPER / "README.md").read_text(), flags=re.MULTILINE)
    assert sorted(sources) == sorted(names)
    for name in names:
        frame = published.read(name)
        assert len(frame)
        assert not frame.columns.str.startswith("Unnamed").any()


def test_published_tables_are_consistent_with_each_other():
    main, ablation = published.read("infodiffusion_table1"), published.read("infodiffusion_table2")
    assert main.shape == (32, 9)
    assert main.iloc[0].tolist() == [
        "Open Domain Dialogue",
        "GRU-attention",
        0.0068,
        0.1054,
        0.4128,
        0.8998,
        0.8008,
        0.1824,
        4.46,
    ]
    whole = main.merge(ablation, on=list(ablation.columns))
    assert whole["model"].tolist() == ["InfoDiffusion"]
    zsre = published.read("wise_zsre")
    # Their averages are of unrounded numbers.
    assert (zsre[["rel", "gen", "loc"]].mean(axis=1) - zsre["avg"]).abs().max() < 0.011


def test_the_schedule_passes_through_the_points_read_off_figure_3():
    points = published.read("infodiffusion_figure3")
    share = points["t"] / points["T"]
    abar = 1 - share + points["lambda"] * np.sin(np.pi * share) * points["e"].fillna(0)
    assert np.allclose(abar, points["abar_read_off"], atol=0.005)


def test_missing_and_broken_published_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PAPER", tmp_path)
    (tmp_path / "broken.csv").write_text('a,b\n1,2,3,4\n"')
    with pytest.raises(UserError, match=r"nothing_here\.csv: no such file; data/paper/ holds broken"):
        published.read("nothing_here")
    with pytest.raises(UserError, match=r"broken\.csv: "):
        published.read("broken")


@pytest.mark.parametrize(
    ("frame", "keys"),
    [
        ({"method": ["LoRA", "DoRA"], "said": ["x", "y"], "right": [0.9, 0.5]}, ["method"]),
        ({"method": ["LoRA", "LoRA"], "N": [10, 50], "right": [0.9, 0.5]}, ["method", "N"]),
        ({"method": ["LoRA", "LoRA"], "right": [0.9, 0.5]}, []),  # nothing that names a row tells them apart
        ({"right": [0.9, 0.5], "method": ["LoRA", "DoRA"]}, []),
        ({"shown": [True, False]}, []),
    ],
)
def test_the_json_names_the_columns_that_tell_the_rows_apart(tmp_path, monkeypatch, frame, keys):
    monkeypatch.setattr(paths, "work_figures", lambda profile: tmp_path)
    tables.Table(pd.DataFrame(frame), "Caption.", "s/t").save("smoke")
    assert json.loads((tmp_path / "s/t.json").read_text())["keys"] == keys


def test_keys_that_do_not_tell_the_rows_apart_are_refused_when_saved(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "work_figures", lambda profile: tmp_path)
    frame = pd.DataFrame({"method": ["LoRA", "LoRA"], "N": [10, 50]})
    with pytest.raises(ValueError, match=r"s/t: rows that the keys \['method'\] do not tell apart"):
        tables.Table(frame, "Caption.", "s/t", keys=["method"]).save("smoke")
    assert not (tmp_path / "s").exists()
    tables.Table(frame, "Caption.", "s/t", keys=["N"]).save("smoke")
    assert json.loads((tmp_path / "s/t.json").read_text())["keys"] == ["N"]
    with pytest.raises(ValueError, match=r"keys that are no columns: \['rank'\]"):
        tables.Table(frame, "Caption.", "s/t", keys=["rank"])


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0, "< .001"), (0.00099, "< .001"), (0.001, "0.001"), (0.0471, "0.047"), (1.0, "1.000"), (None, "–")],
)
def test_a_small_p_value_is_told_as_small(p, text):
    assert tables.format_cell(p, tables.P_VALUE) == text


def test_the_best_number_of_each_group_is_bold_and_rows_aside_are_no_competitors():
    frame = pd.DataFrame(
        {
            "task": ["first", "first", "first", "second"],
            "model": ["a", "b<", "copy", "a"],
            "BLEU": [Interval(0.2, 0.1, 0.3), Interval(0.4, 0.3, 0.5), Interval(0.9, 0.8, 1.0), None],
            "Self-BLEU": [0.25, 0.25, 0.1, 0.5],
        }
    )
    ways = {"BLEU": "highest", "Self-BLEU": "lowest"}
    table = tables.Table(frame, "Scores.", "s/x", best=ways, group="task", aside=("copy",))
    bold = re.findall(r"<b>(.*?)</b>", table.html())
    assert bold == ["0.250", "0.400 [0.300,\u00a00.500]", "0.250", "0.500"]
    assert "<td>b&lt;</td>" in table.html()
    plain = tables.Table(frame, "Scores.", "s/x")
    assert table.html().replace("<b>", "").replace("</b>", "") == plain.html()
    with pytest.raises(ValueError, match="no columns"):
        tables.Table(frame, "Scores.", "s/x", best={"ROUGE-L": "highest"})


def test_levels_that_cannot_be_compared_have_no_difference():
    ours = pd.DataFrame([{"model": "a", "bleu": Interval(0.4, 0.3, 0.5)}])
    paper = pd.DataFrame([{"model": "a", "bleu": 0.2}])
    given = {"metrics": {"bleu": "BLEU"}, "differs": "text.", "caption": "Scores.", "stem": "s/x"}
    beside = tables.beside_paper(ours, paper, ["model"], **given, difference=False)
    assert list(beside.frame.columns) == ["model", "BLEU, here", "BLEU, paper"]
    named = tables.beside_paper(ours, paper, ["model"], **given, difference=False, whose="WISE paper")
    assert list(named.frame.columns) == ["model", "BLEU, here", "BLEU, WISE paper"]
    assert set(named.formats) == {"BLEU, here", "BLEU, WISE paper"}
    assert "BLEU, difference" in tables.beside_paper(ours, paper, ["model"], **given).frame.columns
