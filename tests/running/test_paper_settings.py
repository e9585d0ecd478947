"""The table of the papers' settings: as the profiles are now, and of sizes that exist."""

import pytest

from lib import profiles
from lib.errors import UserError
from lib.running import paper_settings


def test_the_page_has_the_table_as_it_would_be_written_now() -> None:
    text = paper_settings.PAGE.read_text(encoding="utf-8")
    assert paper_settings.renewed(text) == text


def test_values_are_those_of_the_profiles() -> None:
    rows = {row[1]: row[3:] for row in paper_settings._rows()}
    paper, cpu = (profiles.PROFILES[name] for name in ("paper", "cpu"))
    assert rows["rate of an expert"] == (str(paper.editing.rate), str(cpu.editing.rate))
    assert rows["training steps: QQP"] == ("50,000", f"{cpu.diffusion.tasks['paraphrase'].training_steps:,}")
    assert rows["models beside the first"] == ("mistralai/Mistral-7B-v0.1", "none")
    assert rows["T, and over how many rolled-back runs (ours)"][1] == "1 (5), 10 (2), 100 (1)"


def test_a_page_without_its_markers_is_refused() -> None:
    with pytest.raises(UserError, match="begin settings"):
        paper_settings.renewed("a page")
