"""Distant questions: as many as asked for, of both kinds, of no relation, wording or subject of an edit."""

import pytest

from lib.errors import UserError
from lib.facts.relations import WORDINGS, within
from lib.series.lemoe import distant
from lib.series.lemoe.edit_sets import edit_set


def test_questions_come_in_turn_begin_where_they_are_told_and_go_round() -> None:
    every = distant.questions("edits", 256)
    assert [one.kind for one in every[:4]] == ["passage", "relation", "passage", "relation"]
    assert len({one.prompt for one in every}) == 256
    assert all(one.answer.startswith(" ") for one in every)
    assert distant.questions("edits", 3, start=255) == [every[255], *every[:2]]
    with pytest.raises(UserError, match="257 distant questions are not to be had"):
        distant.questions("edits", 257)


def test_no_question_is_about_an_edited_subject_or_worded_as_an_edit() -> None:
    asked = {split: distant.questions(split, count) for split, count in (("edits", 256), ("tuning", 82))}
    assert not {one.prompt for one in asked["edits"]} & {one.prompt for one in asked["tuning"]}
    subjects = {edit.subject for name in ("facts", "tuning") for edit in edit_set(name).edits if edit.subject}
    beginnings = tuple(wording.prompt.split("{s}")[0] for wording in WORDINGS.values())
    openings = {text for text in beginnings if text not in ("", "The element ")}
    for one in (*asked["edits"], *asked["tuning"]):
        if one.kind == "relation":
            assert not any(name in one.prompt and within(name, one.prompt) for name in subjects)
            assert not one.prompt.startswith(tuple(openings))
