"""Tables of the language sets on made-up records: what is there is shown, what is pending is named."""

from types import SimpleNamespace

import pandas as pd
import pytest

from lib.reporting import claims
from lib.series.distillation import cases, language_cases, language_tables, verdicts
from lib.series.distillation.world import Splits
from lib.text.instructions import Instruction

TEST = [
    Instruction("Do.", f"it is {word}.", f"is it {word}?", name, f"{name}/{word}", (f"is it {word}?",))
    for name in ("ask", "simple")
    for word in ("late", "here", "cold", "true")
]
SEEDS = (0, 1, 2)


def record(loss: float, text: str | None, drawn: bool = True) -> SimpleNamespace:
    rows = {"set": [item.name for item in TEST], "identity": [item.identity for item in TEST]}
    losses = pd.DataFrame({"step": 5, **rows, "nats": [2 * loss + 0.1 * n for n in range(8)], "tokens": 2})
    texts = [item.output if text is None else text for item in TEST]
    greedy = pd.DataFrame({"split": "test", **rows, "seed": -1, "text": texts, "tokens": 3})
    outputs = pd.concat([greedy, greedy.assign(seed=10, text="no")]) if drawn else greedy
    return SimpleNamespace(frames={"losses": losses, "outputs": outputs}, values={"best": 5})


@pytest.fixture
def known(monkeypatch) -> verdicts.Known:
    monkeypatch.setattr(cases, "instructions_digest", lambda _: "digest")
    monkeypatch.setattr(Splits, "load", lambda _: Splits(tuple(TEST[:2]), (), tuple(TEST)))
    means = {"forward_kl": 2.0, "ours": 1.5}

    def stored(case):
        _, _, student, method, *seed = case.name.split("/")
        if (student, method) == ("teacher", "adapted"):
            return record(1.0, None)
        if student in ("gpt2", "llama_8x192") and method in means and int(seed[0][4:]) in SEEDS:
            number = int(seed[0][4:])
            mean = means[method] + 0.01 * number * (2 if method == "ours" else 1)
            return record(mean, "is it late?", number == 0)
        return None

    for name in ("stored", "available"):
        monkeypatch.setattr(verdicts.records, name, stored)
    monkeypatch.setattr(language_cases, "seeds", lambda *_: SEEDS)
    return verdicts.Known("cpu")


def test_the_main_table_shows_what_is_recorded_beside_what_needs_no_model(known) -> None:
    found = language_tables.main_table(known).set_index("method")
    assert list(found.index) == [
        *("most frequent answer", "copy the input", "nearest training prompt", "teacher"),
        *("output loss: forward KL", "both losses"),
    ]
    told = {name: row[language_tables.LOSS].estimate for name, row in found.iloc[3:].iterrows()}
    assert told == pytest.approx({"teacher": 1.175, "output loss: forward KL": 2.185, "both losses": 1.695})
    assert found.loc["teacher", "exact, greedy (%)"].estimate == 100
    assert found.loc["copy the input", "exact, greedy (%)"].estimate == 0
    assert found.loc["both losses", "exact, greedy (%)"].estimate == 25
    assert found.loc["both losses", language_tables.SAMPLED].estimate == 0
    assert found["seeds"].tolist()[4:] == [3, 3]


def test_the_ladder_says_what_the_middle_loss_gives_by_distance(known) -> None:
    found = language_tables.ladder(known).set_index("student")
    assert found["distance"].is_monotonic_increasing
    assert found.loc["gpt2", "what the middle loss gives"].estimate == pytest.approx(0.5 - 0.01)
    assert found.index[0] == "llama_8x192"
    assert found.loc["llama", "what the middle loss gives"] is None


def test_what_is_pending_is_told_in_one_line(known, monkeypatch) -> None:
    told = language_tables.told_pending(known)
    assert told.startswith("1")  # more than a hundred
    assert "records are pending: teacher/cache, gpt2/sft, gpt2/sequence" in told
    assert told.endswith("more")
    monkeypatch.setattr(known, "pending", list)
    assert language_tables.told_pending(known) == ""


def test_what_each_row_has_more_of_loss_than_another_is_told_for_students_whose_rows_are_all_there(
    known, monkeypatch
) -> None:
    assert language_tables.minus(known, "forward_kl") == {}
    means = dict.fromkeys(language_cases.CONTROLS, 1.75) | {"sft": 2.5, "forward_kl": 2.0, "ours": 1.5}
    frames = {
        method: [verdicts.language_scores.losses_of(record(mean * (1 + 0.01 * (seed - 1)), None)) for seed in SEEDS]
        for method, mean in means.items()
    }
    asked = []

    def losses(student, method, few):
        asked.append((student, few))
        return frames[method] if student == "llama" else None

    monkeypatch.setattr(known, "losses", losses)
    language_tables.minus(known, "forward_kl")
    assert set(asked) == {("gpt2", True), ("llama", True)}  # until all planned seeds are there
    asked.clear()
    monkeypatch.setattr(known, "of", lambda student, method: student == "llama")
    found = language_tables.minus(known, "forward_kl")
    assert set(asked) == {("gpt2", True), ("llama", False)}
    assert list(found) == ["Llama style"]
    told = {name: one.estimate for name, one in found["Llama style"].items()}
    assert told == pytest.approx(
        {"cross-entropy alone": 0.5, "both losses": -0.5}
        | dict.fromkeys(["reversed", "random layers", "frozen random projection"], -0.25)
    )


def test_sets_are_shown_with_an_example_and_with_what_could_be_remembered(known) -> None:
    told = language_tables.examples(known).splitlines()
    assert [line.split("`")[1] for line in told] == ["ask", "simple"]
    assert told[0].endswith("“it is late.” → “is it late?”")
    # The first two test rows are the training rows, and their set has four.
    assert language_tables.remembered(known) == {"ask": 0.5, "simple": 0.5}
    frame = language_tables.sets().set_index("set")
    assert list(frame.index) == list(language_tables.ASKED)
    assert (frame["test"] > 50).all()
    assert (frame["words wanted"] > 1).all()


def test_answers_stand_side_by_side_where_they_are_recorded(known) -> None:
    frame = language_tables.side_by_side(known, ["forward_kl", "sft"], 2)
    assert frame["set"].tolist() == ["ask", "ask", "simple", "simple"]
    assert (frame["teacher"] == frame["wanted"]).all()
    assert set(frame["output loss: forward KL"]) == {"is it late?"}
    assert frame.shape[1] == 5


def test_the_setting_says_what_the_teacher_came_to(known, monkeypatch) -> None:
    known.teacher.values |= {"validation": {"50": 1.5, "100": 1.25}, "step": 100}
    told = language_tables.setting(known)
    assert "learns 200 rows" in told
    assert "1.500 after 50 and 1.250 after 100 steps; it stays as after 100." in told
    monkeypatch.setattr(known, "teacher", None)
    assert language_tables.setting(known).endswith("The teacher is not recorded yet.")


def test_the_sentences_of_the_main_table_name_the_ends_and_the_rows_beside_them(known) -> None:
    told = language_tables.told(language_tables.main_table(known))
    assert "The lowest held-out loss of a student is that of *both losses*, 1.695 [" in told
    assert "the highest that of *output loss: forward KL*, 2.185 [" in told
    assert "The teacher has 1.175" in told
    assert "*output loss: forward KL* is highest of the students" in told  # both answer alike: the first of them


def test_a_profile_of_the_fields_own_files_says_that_it_has_none(monkeypatch) -> None:
    paper = verdicts.Known("paper")
    assert language_tables.examples(paper) == language_tables.setting(paper) == language_tables.NO_SETS
    assert language_tables.remembered(paper) == language_tables.minus(paper, "forward_kl") == {}
    assert language_tables.side_by_side(paper, ["forward_kl"], 2).empty
    frame = language_tables.main_table(paper)
    assert list(frame.columns[:3]) == ["method", "seeds", language_tables.LOSS]
    assert language_tables.told(frame) == "No student is recorded at this size."
    assert {one.outcome for one in verdicts.every("paper")} == {claims.INCONCLUSIVE}
    assert not language_cases.judges("paper")


def test_how_far_the_main_rows_are_recorded_is_said_until_all_are(known, monkeypatch) -> None:
    rows = list(language_cases.main_rows("cpu"))
    assert len(rows) == len(set(rows)) == 2 * 6 * len(SEEDS)
    told = language_tables.standing(known)  # output loss and ours of GPT-2 style
    assert told.startswith(f"Of {len(rows)} rows that the claim on the language sets rests on {2 * len(SEEDS)} are")
    monkeypatch.setattr(known, "record", lambda *row: row in rows)
    assert language_tables.standing(known) == ""
    assert language_tables.standing(verdicts.Known("paper")) == language_tables.NO_SETS
