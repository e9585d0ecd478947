"""Readers of the benchmarks' own files (ZsRE, CounterFact, SelfCheckGPT's hallucinations).

A file is a JSON list of records or one record a line. Prompts lose the blanks around them, targets and answers begin
with one blank (also SelfCheckGPT's locality texts, which are cut inside words: our policy knows no other join).
"""

import json
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import paths
from lib.causal_lm.edits import Edit, check
from lib.errors import UserError


def read_zsre(path: Path) -> list[Edit]:
    """Read ZsRE in the layout of `zsre_mend_edit`: subject, src, rephrase, alt, loc, loc_ans, perhaps answers.

    The task is that of WISE and LEMoE: edit `src` to `alt`, locality on `loc`. Where a subject stands in the prompt in
    other capitals, the prompt's are taken; where it does not stand there, it becomes None (methods that need subjects
    then refuse the edit); a warning counts both. Raises `UserError` naming file, record and field.
    """
    subjects: Counter[str] = Counter()

    def parse(record: "_Record") -> Edit:
        prompt, named = record.prompt("src"), record.text("subject")
        subject = _as_written(named, prompt)
        subjects["recased" if subject else "absent"] += subject != named
        answers = record.content.get("answers")
        return Edit(
            prompt,
            record.answer("alt"),
            subject,
            (record.prompt("rephrase"),),
            (record.prompt("loc"), record.answer("loc_ans")),
            record.sub("answers", answers[:1]).answer("0") if isinstance(answers, list) and answers else None,
            identity=f"zsre/{record.number}",
        )

    edits = _read(path, parse)
    if subjects.total():
        warnings.warn(
            f"{paths.relative(path)}: of {len(edits)} edits, {subjects['recased']} take their subject's capitals "
            f"from the prompt, and {subjects['absent']} have no subject, since it is not in the prompt",
            stacklevel=2,
        )
    return edits


def read_counterfact(path: Path) -> list[Edit]:
    """Read CounterFact, record by record nested (ROME's `requested_rewrite`) or flat (`target_new`, `ground_truth`).

    Edits `target_true` to `target_new`. Of a nested record all paraphrases are rephrases and its first neighbourhood
    prompt, whose answer is `target_true`, is the locality. Raises `UserError` naming file, record and field.
    """

    def parse(record: "_Record") -> Edit:
        return _nested(record) if "requested_rewrite" in record.content else _flat(record)

    return _read(path, parse)


def read_selfcheckgpt(path: Path) -> list[Edit]:
    """Read hallucination edits: prompt, target_new, subject, locality_prompt, locality_ground_truth; no rephrases.

    Raises `UserError` naming file, record and field.
    """

    def parse(record: "_Record") -> Edit:
        return Edit(
            record.prompt("prompt"),
            record.answer("target_new"),
            record.text("subject"),
            locality=(record.prompt("locality_prompt"), record.answer("locality_ground_truth")),
            identity=f"selfcheckgpt/{record.number}",
        )

    return _read(path, parse)


@dataclass(frozen=True)
class _Record:
    """One object of a file and where it stands, for messages."""

    place: str
    number: int
    content: dict[str, Any]
    above: str = ""

    def value(self, field: str) -> Any:
        if field not in self.content:
            found = ", ".join(self.content) or "none"
            raise UserError(f'{self.place}: no field "{self.above}{field}" (found: {found}); rename or add it')
        return self.content[field]

    def text(self, field: str) -> str:
        """Return a string without the blanks around it; `UserError` for something else and an empty one."""
        found = self.value(field)
        if not isinstance(found, str):
            raise UserError(f'{self.place}: field "{self.above}{field}" is not a string; put it in quotation marks')
        if not found.strip():
            raise UserError(f'{self.place}: field "{self.above}{field}" is empty; fill it or remove the record')
        return found.strip()

    prompt = text

    def answer(self, field: str) -> str:
        return f" {self.text(field)}"

    def sub(self, field: str, content: Any) -> "_Record":
        """Return what stands in a field (an object, or a list by its places) as a record of its own."""
        if isinstance(content, list):
            content = {str(place): item for place, item in enumerate(content)}
        if not isinstance(content, dict):
            raise UserError(f'{self.place}: field "{self.above}{field}" is not an object or list; see the layout')
        return _Record(self.place, self.number, content, f"{self.above}{field}.")

    def child(self, field: str) -> "_Record":
        return self.sub(field, self.value(field))


def _nested(record: _Record) -> Edit:
    rewrite = record.child("requested_rewrite")
    template, subject = rewrite.prompt("prompt"), rewrite.text("subject")
    if template.count("{}") != 1:
        raise UserError(f'{record.place}: field "requested_rewrite.prompt" needs one {{}} for the subject; correct it')
    answer = rewrite.child("target_true").answer("str")
    paraphrases, neighbours = record.child("paraphrase_prompts"), record.child("neighborhood_prompts")
    return Edit(
        template.replace("{}", subject),
        rewrite.child("target_new").answer("str"),
        subject,
        tuple(paraphrases.prompt(place) for place in paraphrases.content),
        (neighbours.prompt("0"), answer),
        answer,
        str(rewrite.content.get("relation_id", "")),
        f"counterfact/{record.content.get('case_id', record.number)}",
    )


def _flat(record: _Record) -> Edit:
    return Edit(
        record.prompt("prompt"),
        record.answer("target_new"),
        record.text("subject"),
        (record.prompt("rephrase_prompt"),),
        (record.prompt("locality_prompt"), record.answer("locality_ground_truth")),
        record.answer("ground_truth"),
        identity=f"counterfact/{record.content.get('case_id', record.number)}",
    )


def _as_written(subject: str, prompt: str) -> str | None:
    """Return a subject as it is written in a prompt, itself if it is there so, else None."""
    if subject in prompt:
        return subject
    start = prompt.lower().find(subject.lower())
    written = prompt[start : start + len(subject)]
    # A capital of another length (as in Turkish) would shift the place.
    return written if start >= 0 and written.lower() == subject.lower() else None


def _read(path: Path, parse: Callable[[_Record], Edit]) -> list[Edit]:
    edits = []
    for number, content in enumerate(_contents(path), 1):
        place = f"{paths.relative(path)}, record {number}"
        if not isinstance(content, dict):
            raise UserError(f"{place}: not a JSON object; see the layout of the data set")
        edit = parse(_Record(place, number, content))
        try:
            check(edit)
        except UserError as error:
            field = "subject" if edit.subject is not None and edit.subject not in edit.prompt else "target"
            raise UserError(f'{place}, field "{field}": {error}') from error
        edits.append(edit)
    return edits


def _contents(path: Path) -> list[Any]:
    """Return the records of a JSON list or of JSON lines; `UserError` for a file that is neither, or holds none."""
    place = paths.relative(path)
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{place}: {error.strerror or error}; check the path of the data file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{place}: not UTF-8 (byte {error.start + 1}); save the file as UTF-8") from error
    try:
        found = json.loads(text) if text.lstrip().startswith("[") else _lines(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{place}: broken JSON ({error.msg}, {where}); mend it") from error
    if not found:
        raise UserError(f"{place}: no records; give a JSON list of them, or one a line")
    return found


def _lines(text: str) -> list[Any]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError as error:
                error.lineno = number
                raise
    return found
