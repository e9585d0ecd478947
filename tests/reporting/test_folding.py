"""Folded outputs: everything is there, once, and closed until somebody opens it."""

import pandas as pd

from lib.reporting import folding, tables


def test_tables_and_texts_stand_in_one_closed_element():
    table = tables.Table(pd.DataFrame({"model": ["a"], "BLEU": [0.5]}), "Scores.", "s/x")
    page = folding.page("All scores & texts", table, "1 < 2\n  indented")
    assert page.startswith("<details><summary>All scores &amp; texts</summary>")
    assert page.endswith("</details>")
    assert table.html() in page
    assert "<pre>1 &lt; 2\n  indented</pre>" in page


def test_as_plain_text_nothing_is_folded(capsys):
    folding.fold("All scores", tables.Table(pd.DataFrame({"model": ["a"]}), "Scores.", "s/x"), "and more")
    printed = capsys.readouterr().out
    assert [word in printed for word in ("All scores", "Scores.", "and more")] == [True] * 3
