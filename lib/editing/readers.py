"""Readers of the benchmarks' own files (ZsRE, CounterFact, SelfCheckGPT's hallucinations, QAEdit).

A file is a JSON list of records or one record a line. Prompts lose the blanks around them, targets and answers begin
with one blank (also SelfCheckGPT's locality texts, which are cut inside words: our policy knows no other join). A field
of rephrases holds one text or a list of them. Where the locality question has no answer (7 of the 600 hallucinations of
WISE), the edit has no locality; a warning counts such edits.
"""

import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from lib import paths, strict_json
from lib.causal_lm.edits import Edit, check
from lib.errors import UserError
from lib.text import json_records
from lib.text.json_records import Record

# What the field calls the same, the name of the sets' own releases last or alone.
REPHRASES = ("rephrase_prompt", "rephrase", "ood_rephrase")


def read_zsre(path: Path) -> list[Edit]:
    """Read ZsRE in the layout of `zsre_mend_edit`: subject, src, rephrase, alt, loc, loc_ans, perhaps answers.

    The task is that of WISE and LEMoE: edit `src` to `alt`, locality on `loc`. Where a subject stands in the prompt in
    other capitals, the prompt's are taken; where it does not stand there, it becomes None (methods that need subjects
    then refuse the edit); a warning counts both. Raises `UserError` naming file, record and field.
    """

    def parse(record: Record, number: int) -> Edit:
        prompt = record.text("src")
        return Edit(
            prompt,
            _answer(record, "alt"),
            _as_written(record.text("subject"), prompt),
            record.texts("rephrase"),
            _locality(record, "loc", "loc_ans"),
            _first(record, "answers"),
            identity=f"zsre/{number}",
        )

    return _read(path, parse)


def read_counterfact(path: Path) -> list[Edit]:
    """Read CounterFact, record by record nested (ROME's `requested_rewrite`) or flat (`target_new`, `ground_truth`).

    Edits `target_true` to `target_new`. Of a nested record all paraphrases are rephrases and its first neighbourhood
    prompt, whose answer is `target_true`, is the locality. Raises `UserError` naming file, record and field.
    """

    def parse(record: Record, number: int) -> Edit:
        return _nested(record, number) if "requested_rewrite" in record.content else _flat(record, number)

    return _read(path, parse)


def read_selfcheckgpt(path: Path) -> list[Edit]:
    """Read WISE's hallucinations: prompt, target_new, subject, locality_prompt, locality_ground_truth; no rephrases.

    Its `temporal` files have the same fields and an `ood_rephrase`, which is taken. Raises `UserError` naming file,
    record and field.
    """

    def parse(record: Record, number: int) -> Edit:
        return Edit(
            record.text("prompt"),
            _answer(record, "target_new"),
            record.text("subject"),
            record.texts(*REPHRASES) if record.has(*REPHRASES) else (),
            _locality(record, "locality_prompt", "locality_ground_truth"),
            identity=f"selfcheckgpt/{number}",
        )

    return _read(path, parse)


def read_qaedit(path: Path) -> list[Edit]:
    """Read QAEdit: prompt, target, subject, rephrase, and under `locality` a list of questions, loc and loc_ans.

    The first of these that has an answer is the edit's locality. Subjects are taken as in `read_zsre`. Raises
    `UserError` naming file, record and field.
    """

    def parse(record: Record, number: int) -> Edit:
        prompt, questions = record.text("prompt"), record.inside("locality")
        asked = (_locality(questions.inside(place), "loc", "loc_ans") for place in questions.content)
        return Edit(
            prompt,
            _answer(record, "target"),
            _as_written(record.text("subject"), prompt),
            record.texts("rephrase"),
            next((found for found in asked if found), None),
            identity=f"qaedit/{number}",
        )

    return _read(path, parse)


def _nested(record: Record, number: int) -> Edit:
    rewrite = record.inside("requested_rewrite")
    template, subject = rewrite.text("prompt"), rewrite.text("subject")
    if template.count("{}") != 1:
        rewrite.refuse("prompt", "needs one {} for the subject; correct it")
    answer = _answer(rewrite.inside("target_true"), "str")
    paraphrases, neighbours = record.inside("paraphrase_prompts"), record.inside("neighborhood_prompts")
    return Edit(
        template.replace("{}", subject),
        _answer(rewrite.inside("target_new"), "str"),
        subject,
        tuple(paraphrases.text(place) for place in paraphrases.content),
        (neighbours.text("0"), answer),
        answer,
        str(rewrite.content.get("relation_id") or ""),
        _identity(record, number),
    )


def _flat(record: Record, number: int) -> Edit:
    return Edit(
        record.text("prompt"),
        _answer(record, "target_new"),
        record.text("subject"),
        record.texts(*REPHRASES),
        _locality(record, "locality_prompt", "locality_ground_truth"),
        _answer(record, "ground_truth"),
        identity=_identity(record, number),
    )


def _answer(record: Record, field: str) -> str:
    return f" {record.text(field)}"


def _first(record: Record, field: str) -> str | None:
    """Return the first of a list of answers, or the one answer; None for a missing field and an empty list."""
    given = record.content.get(field)
    if given is None or given == []:
        return None
    return _answer(record.inside(field), "0") if isinstance(given, list) else _answer(record, field)


def _identity(record: Record, number: int) -> str:
    case = record.content.get("case_id", number)
    if not isinstance(case, int | str):
        record.refuse("case_id", f"is {strict_json.kind(case)}; give a number, or leave it out")
    return f"counterfact/{case}"


def _locality(record: Record, question: str, answer: str) -> tuple[str, str] | None:
    """Return the locality question with its answer, None where the answer is an empty text."""
    asked, given = record.text(question), record.content.get(answer)
    return None if isinstance(given, str) and not given.strip() else (asked, _answer(record, answer))


def _as_written(subject: str, prompt: str) -> str | None:
    """Return a subject as it is written in a prompt, itself if it is there so, else None."""
    if subject in prompt:
        return subject
    start = prompt.lower().find(subject.lower())
    written = prompt[start : start + len(subject)]
    # A capital of another length (as in Turkish) would shift the place.
    return written if start >= 0 and written.lower() == subject.lower() else None


def _read(path: Path, parse: Callable[[Record, int], Edit]) -> list[Edit]:
    """Return the edits of all records, each parsed with its number; a warning counts what is no longer as in the file.

    Raises `UserError` also for an edit that `check` refuses.
    """
    edits, changed = dict[str, Edit](), Counter[str]()
    for number, record in enumerate(json_records.read(path, "records", "a record of the data set"), 1):
        edit = parse(record, number)
        try:
            check(edit)
        except UserError as error:
            field = "subject" if edit.subject is not None and edit.subject not in edit.prompt else "target"
            raise UserError(f'{record.place}, field "{field}": {error}') from error
        if edit.identity in edits:
            raise UserError(f"{record.place}: a second record {edit.identity}; remove or renumber one")
        edits[edit.identity] = edit
        named = record.content.get("subject")
        changed["recased"] += isinstance(named, str) and edit.subject not in (None, named.strip())
        changed["absent"] += isinstance(named, str) and edit.subject is None
        changed["unasked"] += edit.locality is None
    told = {
        "take their subject's capitals from the prompt": changed["recased"],
        "have no subject, since it is not in the prompt": changed["absent"],
        "have no locality, since its question has no answer": changed["unasked"],
    }
    if changed.total():
        said = ", ".join(f"{count} {what}" for what, count in told.items() if count)
        warnings.warn(f"{paths.relative(path)}: of {len(edits)} edits, {said}", stacklevel=3)
    return list(edits.values())
