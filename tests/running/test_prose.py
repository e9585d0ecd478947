"""Which tables and figures of a notebook no sentence follows, on notebooks of a few cells."""

import pytest

from lib.running import prose

TABLE = {"output_type": "display_data", "data": {"text/html": ["<div>", "<table><tr></tr></table>"], "text/plain": ""}}
FIGURE = {"output_type": "display_data", "data": {"image/png": "iVBOR", "text/plain": ["<Figure>"]}}
DRAWING = {"output_type": "display_data", "data": {"image/svg+xml": ["<svg/>"]}}
CAPTION = {"output_type": "display_data", "data": {"text/markdown": ["Validation BLEU over the steps of training."]}}
NUMBERS = {"output_type": "stream", "name": "stdout", "text": ["0.5 0.25\n", "0.1 0.2\n"]}
TOLD = {"output_type": "stream", "name": "stdout", "text": ["The pair differs ", "by 0.5 in BLEU.\n"]}
SAYS = "InfoDiffusion is ahead by\n1.2 BLEU."


def code(*outputs):
    return {"cell_type": "code", "id": "c", "source": "run()", "outputs": list(outputs)}


def text(source):
    return {"cell_type": "markdown", "id": "m", "source": source.splitlines(keepends=True)}


def places(*cells):
    return [one.cell for one in prose.untold({"cells": list(cells)})]


@pytest.mark.parametrize("output", [TABLE, FIGURE, DRAWING])
def test_what_is_shown_needs_a_sentence_below_it(output):
    assert places(code(output)) == [1]
    assert places(code(output), text(SAYS)) == []
    assert places(code(output), text(f"## The next thing\n\n{SAYS}")) == [1]
    assert places(code(output), code(output), text(SAYS)) == [1]


def test_what_only_prints_numbers_shows_nothing():
    assert places(text("# One"), code(), code(NUMBERS)) == []
    assert prose.shown({"cells": [text("# One"), code(NUMBERS), code(TABLE, TABLE), code(CAPTION, FIGURE)]}) == 2


def test_a_sentence_may_be_printed_after_it_but_a_caption_before_it_is_none():
    assert places(code(TABLE, TOLD)) == []
    assert places(code(TABLE, CAPTION)) == []
    assert places(code(TABLE, NUMBERS)) == [1]
    assert places(code(TABLE, TOLD, TABLE)) == [1]
    assert places(code(CAPTION, FIGURE)) == [1]
    assert places(code(FIGURE), code(TOLD)) == []
    assert places(code(FIGURE), code(NUMBERS)) == [1]
    assert places(code(FIGURE), code(CAPTION, FIGURE), text(SAYS)) == [1]


@pytest.mark.parametrize(
    ("markdown", "count"),
    [
        (SAYS, 1),
        ("The gap at $t = 3.$ is $1.2$ in BLEU. Nobody is ahead here.", 2),
        ("See above.", 0),
        ("The numbers of the paper beside ours:", 0),
        ("A title without an end", 0),
        ("| a b c d. |\n|---|\n| e f g h. |", 0),
        ("```python\nThis is not a sentence.\n```", 0),
        ("![The picture shows it all.](a.svg)", 0),
        ("- It gains on three tasks.\n- It loses on one task.", 2),
        ("**Nobody is ahead of copying.** Why is that the case?", 2),
        ("# Take away\n\nIt gains on three tasks.", 0),
        ("It gains on three tasks.\n\n## Next\n\nIt loses on one task.", 1),
        ("```\n# no heading\n```\n\nIt gains on three tasks.", 1),
    ],
)
def test_what_counts_as_a_sentence(markdown, count):
    assert len(prose.sentences(markdown)) == count


def test_the_list_names_cell_heading_and_kind():
    (found,) = prose.untold({"cells": [text("# 1 Name\n\n## Scores\n\nA sentence stands here."), code(TABLE)]})
    assert str(found) == "cell 2 (c), a table under 'Scores'"


def test_a_number_in_text_stands_in_an_output_in_code_or_in_a_linked_file(tmp_path):
    (tmp_path / "run.json").write_text('{"seconds": 12.75}')
    shown = {"output_type": "stream", "name": "stdout", "text": ["lost: 0.4033 [0.1344, 0.6722]; 0.81 of all\n"]}
    said = text(
        "About .40 is lost, 0.40 [0.13, 0.67], that is 40.3 % (3.6, `0.99`, $x_0 = 0.123$), in 12.8 s "
        "([run](run.json)). It is 0.77, or 0.81 [0.13, 0.67]."
    )
    found = prose.unfounded({"cells": [code(shown), said]}, tmp_path)
    assert found == [(2, "0.81 [0.13, 0.67]"), (2, "0.77")]
    elsewhere = prose.unfounded({"cells": [code(shown), text("In 12.8 s.")]}, tmp_path)
    assert elsewhere == [(2, "12.8")]
    stop = {"cell_type": "code", "source": "stop = 0.5", "outputs": []}
    below = text("It stops at 0.5.\n\n```python\nrate = 0.7\n```")
    assert prose.unfounded({"cells": [stop, below]}, tmp_path) == []
