"""The forms for issues are ones that GitHub reads, and name places that exist."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github/ISSUE_TEMPLATE"
FORMS = sorted(set(FOLDER.glob("*.yml")) - {FOLDER / "config.yml"})
# What each kind of field must have, by GitHub's schema for forms.
NEEDED = {"markdown": {"value"}, "input": {"label"}, "textarea": {"label"}, "dropdown": {"label", "options"}}
KNOWN = {"value", "label", "description", "placeholder", "render", "options"}


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_can_be_read(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form.keys() == {"name", "description", "title", "labels", "body"}
    assert all(isinstance(form[key], str) for key in ("name", "description", "title"))
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 1
    for field in form["body"]:
        assert field.keys() <= {"type", "id", "attributes", "validations"}
        assert NEEDED[field["type"]] <= field["attributes"].keys() <= KNOWN
        assert field.get("validations", {"required": True}) == {"required": True}
        options = field["attributes"].get("options", [])
        assert len(set(options)) == len(options)
        assert all(isinstance(option, str) for option in options)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_names_places_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert all((ROOT / place).is_file() for place in re.findall(r"docs/\w+\.md", text))
    verbs = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make ([a-z]+)", text)) <= set(verbs)


def test_there_are_forms_and_none_is_forced_on_anybody() -> None:
    assert [path.stem for path in FORMS] == ["bug", "number", "reading"]
    assert yaml.safe_load((FOLDER / "config.yml").read_text()) == {"blank_issues_enabled": True}
