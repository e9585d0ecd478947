"""Tables of differences between recorded rows: what distillation gives, what more steps, other rules and students do.

Scores are ROUGE-L in points of 100. Rows that nobody has recorded are left out, and no number stands in their place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from lib import intervals, records
from lib.intervals import Interval
from lib.reporting import sentences, tables
from lib.reporting.claims import POINTS_UNIT, Claim, Comparison, Gate, Verdict, judge
from lib.series.distillation import cases, evaluation
from lib.series.distillation.answered import SHORT, TITLES, Answered, Runs

SOURCE = "Heterogeneous distillation, abstract"
CONTROLS = ("rule_reversed", "rule_random", "module_frozen")
PAIRS = (("forward_kl", "sft"), ("middle", "sft"), ("ours", "sft"), ("ours", "middle"), ("ours", "forward_kl"))
MINUS_OUTPUT, MINUS_BOTH = "minus output loss", "minus both losses"
BOTH_MINUS_OUTPUT = "both losses minus output loss"
# Verdicts keep the names under which they are published; these are what a reader of a notebook sees.
_TOLD = {"ours minus": "both losses minus", "output only": "output loss", "ours beats": "both losses beat"}


def middle(read: Answered) -> Verdict:
    """Judge on the older sets: ours minus output only over training seeds, sampled, four sets, at equal steps."""
    name = "ours minus output only, four sets"
    claim = Claim(
        id="middle",
        text="The middle-layer loss helps heterogeneous distillation, at equal steps",
        source=SOURCE,
        comparisons=(Comparison(name, ">", 0.0, evaluation.POINTS_APART, POINTS_UNIT),),
        notebook="4_hetero_kd/4.2_main_table",
        gate=Gate("teacher minus cross-entropy alone, four sets, ROUGE-L"),
    )
    if not (read.records_of("ours") and read.records_of("forward_kl")):
        return judge(claim, {name: None})
    pair = evaluation.paired(read.sampled("ours"), read.sampled("forward_kl"), read.trained)
    ahead = None
    if read.records_of("teacher") and read.records_of("sft"):
        taught, *alone = (
            float(evaluation.set_means(run)[list(read.trained)].mean())
            for run in (read.sampled("teacher")[0], *read.sampled("sft"))
        )
        ahead = [taught - one for one in alone]
    return judge(claim, {name: pair}, ahead)


def controls(read: Answered) -> Verdict:
    """Judge on the older sets, of one seed: ours minus the three controls, whose layers or projection mean nothing."""
    named = {f"ours minus {TITLES[name]}": name for name in CONTROLS}
    claim = Claim(
        id="controls",
        text="The mapping rule and the alignment module matter: ours beats reversed, random and frozen controls",
        source=SOURCE,
        comparisons=tuple(Comparison(title, ">", 0.0, evaluation.POINTS_APART, POINTS_UNIT) for title in named),
        notebook="4_hetero_kd/4.3_ablations",
    )
    ours = first_seed(read, "ours")
    found = {title: changed(read, name) for title, name in named.items()}
    data = {
        t: None if run is None or ours is None else evaluation.paired([ours], [run], read.trained)
        for t, run in found.items()
    }
    return judge(claim, data)


def shown(verdict: Verdict) -> tables.Table:
    """Return a verdict as a notebook shows it: the rows by the names of its tables, their digits, and the bare outcome.

    Differences in points have one digit, those in nats three.
    """
    table = verdict.table()
    frame = table.frame.assign(comparison=[_told(name) for name in table.frame["comparison"]])
    caption = f"{_told(verdict.claim.text)} ({verdict.claim.source}). Verdict: {verdict.label.partition(' (')[0]}."
    formats = {**table.formats, "difference": f"+.{_unit(verdict)[1]}f", "level (%)": ".1f"}
    return replace(table, frame=frame, caption=caption, formats=formats)


def findings(verdict: Verdict) -> str:
    """Return in one sentence what each comparison of a verdict came to, then the verdict."""
    unit, digits = _unit(verdict)
    told = [
        f"{_told(one.comparison.name)} {sentences.spread(one.interval, digits, signed=True)}"
        for one in verdict.findings
        if one.interval is not None
    ]
    if not told:
        return "The comparison is not recorded yet."
    return f"In {unit}: {'; '.join(told)}. Verdict: {verdict.outcome}."


def _unit(verdict: Verdict) -> tuple[str, int]:
    """Return what the differences of a verdict are counted in, and how many of their digits are shown."""
    points = all(one.unit == POINTS_UNIT for one in verdict.claim.comparisons)
    return ("points", 1) if points else ("nats a token", 3)


def _told(text: str) -> str:
    for published, told in _TOLD.items():
        text = text.replace(published, told)
    return text


def first_seed(read: Answered, name: str) -> pd.DataFrame | None:
    """Return the sampled scores of the first training seed of a row of the main table."""
    record = records.available(cases.main(name, read.sizes.seeds[0], read.profile))
    return None if record is None else evaluation.of_test(record, read.items)


def changed(read: Answered, name: str) -> pd.DataFrame | None:
    """Return the sampled scores of our method with one thing changed."""
    record = records.available(cases.ablation(name, read.profile))
    return None if record is None else evaluation.of_test(record, read.items)


def differences(read: Answered) -> pd.DataFrame:
    """Return paired differences between rows, over the seeds that both have: difference, seeds, four sets, held out."""
    known: dict[str, Runs] = {name: read.sampled(name) for name in read.names}
    known |= {name: [run] for name in CONTROLS if (run := changed(read, name)) is not None}
    pairs = [*PAIRS, *(("ours", name) for name in CONTROLS), *((name, "forward_kl") for name in CONTROLS)]
    rows: list[dict[str, Any]] = []
    for one, other in pairs:
        if one in known and other in known:
            count = min(len(known[one]), len(known[other]))
            sides = known[one][:count], known[other][:count]
            rows.append({"difference": f"{SHORT[one]} minus {SHORT[other]}", "seeds": count})
            rows[-1]["four sets"] = evaluation.difference(*sides, read.trained)
            rows[-1][f"held out ({read.held_out})"] = evaluation.difference(*sides, [read.held_out])
    return pd.DataFrame(rows, dtype=object)


def by_steps(read: Answered) -> pd.DataFrame:
    """Return the compared rows by number of steps: sampled on the four sets, greedy on the rewriting sets, differences.

    Seeds of the longer runs that are not recorded for all rows are left out.
    """
    asked = [records.whole([cases.longer(m, seed, read.profile) for m in cases.COMPARED]) for seed in read.sizes.seeds]
    longer = [found for found in asked if found]
    rows: list[dict[str, Any]] = []
    short = {m: read.records_of(m) or [] for m in cases.COMPARED}
    steps = {
        read.sizes.steps: short,
        read.sizes.longer * read.sizes.steps: dict(zip(cases.COMPARED, zip(*longer, strict=True), strict=True))
        if longer
        else {},
    }
    for count, found in steps.items():
        scores = {
            m: [[evaluation.of_test(run, read.items, how) for run in runs] for how in (True, False)]
            for m, runs in found.items()
            if runs
        }
        for method, (sampled, greedy) in scores.items():
            row = {
                "method": TITLES[method],
                "steps": count,
                "seeds": len(sampled),
                "four sets, sampled": read.mean(sampled),
            }
            row |= {"rewriting sets, greedy": _on(greedy, read.rewriting)}
            for told, other, whose in (
                ("cross-entropy", "sft", ("forward_kl", "ours")),
                ("output loss", "forward_kl", ("ours",)),
            ):
                for title, side, sets in (("sampled", 0, read.trained), ("greedy", 1, read.rewriting)):
                    known = method in whose and other in scores
                    row[f"minus {told}, {title}"] = (
                        evaluation.difference(scores[method][side], scores[other][side], sets) if known else None
                    )
            rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def on_slices(profile: str) -> pd.DataFrame:
    """Return the scores on files that a user holds, as recorded; empty in `smoke` and where none is."""
    rows: list[dict[str, Any]] = []
    for name, wanted in cases.slices.SLICES.items() if profile != "smoke" else ():
        for who in cases.ON_SLICES:
            if run := records.stored(cases.on_slice(name, who, profile)):
                told, drawn = run.values, run.frames["scores"].query("seed >= 0")
                row = {"file": wanted.title, "method": TITLES[who], "rows": told["rows"]}
                row |= {"prompts cut (%)": 100 * told["cut"], "unknown tokens (%)": 100 * told["unknown"]}
                mean = intervals.mean_interval(drawn.groupby("identity")["rouge"].mean().to_numpy())
                rows.append(row | {"copy": told["copy"], "ROUGE-L": mean})
    return pd.DataFrame(rows, dtype=object)


def ablations(read: Answered) -> pd.DataFrame:
    """Return both losses with one thing changed, one seed each: scores, and differences from rows of the main table.

    Columns: changed, row, four sets, held out, minus output loss, minus both losses; first the rows of the main table.
    """
    main = ("sft", "forward_kl", "middle", "ours")
    runs = {("main table", TITLES[name]): first_seed(read, name) for name in main}
    for name, row in sorted(cases.ABLATIONS.items(), key=lambda entry: entry[1].group):
        runs[row.group, row.title] = changed(read, name)
    known = {titles: run for titles, run in runs.items() if run is not None}
    rows: list[dict[str, Any]] = []
    for (group, title), run in known.items():
        rows.append({"changed": group, "row": title, "four sets": _alone(run, read)})
        rows[-1][f"held out ({read.held_out})"] = evaluation.cell([run], read.held_out)
        for column, other in {MINUS_OUTPUT: "forward_kl", MINUS_BOTH: "ours"}.items():
            base = known.get(("main table", TITLES[other]))
            same = base is None or base is run
            rows[-1][column] = None if base is None or same else evaluation.difference([run], [base], read.trained)
    return pd.DataFrame(rows, dtype=object)


def pairs(read: Answered) -> pd.DataFrame:
    """Return students of other builds, one seed each, the main one first; those of which all rows are recorded."""
    width, layers, _ = read.sizes.student
    first = read.sizes.seeds[0]
    asked = {f"GPT-2 style, {layers} x {width} (main)": [cases.main(m, first, read.profile) for m in cases.COMPARED]}
    for name, (title, _) in cases.students(read.profile).items():
        asked[title] = [cases.pair(name, method, read.profile) for method in cases.COMPARED]
    rows: list[dict[str, Any]] = []
    for title, several in asked.items():
        if found := records.whole(several):
            runs = dict(zip(cases.COMPARED, (evaluation.of_test(run, read.items) for run in found), strict=True))
            mapped = found[-1].values["map"].values()
            rows.append({"student": title, "parameters (millions)": found[-1].values["parameters"] / 1e6})
            rows[-1]["teacher layers"] = ", ".join(map(str, mapped))
            rows[-1] |= {TITLES[name]: _alone(run, read) for name, run in runs.items()}
            sides = [runs["ours"]], [runs["forward_kl"]]
            rows[-1][BOTH_MINUS_OUTPUT] = evaluation.difference(*sides, read.trained)
            rows[-1][f"the same, held out ({read.held_out})"] = evaluation.difference(*sides, [read.held_out])
    return pd.DataFrame(rows, dtype=object)


def own_tokenizers(read: Answered) -> pd.DataFrame:
    """Return students whose tokenizer is their own, one seed each; differences are from cross-entropy alone."""
    found: dict[str, tuple[records.Record, pd.DataFrame]] = {}
    for name, row in cases.OWN_TOKENIZER.items():
        if record := records.available(cases.own_tokenizer(name, read.profile)):
            found[row.title] = record, evaluation.of_test(record, read.items)
    base, held = found.get(cases.OWN_TOKENIZER["sft"].title), f"held out ({read.held_out})"
    rows: list[dict[str, Any]] = []
    for title, (record, run) in found.items():
        rows.append({"method": title, "parameters (millions)": record.values["parameters"] / 1e6})
        rows[-1] |= {"four sets": _alone(run, read), held: evaluation.cell([run], read.held_out)}
        same = base is None or base[1] is run
        rows[-1]["minus cross-entropy alone"] = (
            None if base is None or same else evaluation.difference([run], [base[1]], read.trained)
        )
    columns = ["method", "parameters (millions)", "four sets", held, "minus cross-entropy alone"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def above_teacher(frame: pd.DataFrame, aside: Sequence[str], sets: Sequence[str]) -> list[str]:
    """Return in words which students of a main table score above the teacher on which set, each with both scores.

    `aside` are the rows that are no students, the teacher first.
    """
    rows = frame.set_index("method")
    told: list[str] = []
    for name in sets:
        bar = rows.loc[aside[0], name]
        best = max((row for row in rows.drop(index=list(aside)).index), key=lambda row: rows.loc[row, name].estimate)
        if rows.loc[best, name].estimate > bar.estimate:
            score = sentences.spread(rows.loc[best, name], 1)
            told.append(f"*{best}* on {name} ({score} against {sentences.spread(bar, 1)})")
    return told


def told_apart(found: Mapping[str, Interval], above: float = 0.0) -> tuple[list[str], list[str]]:
    """Return the names whose whole interval lies above, and those whose lies below."""
    return [name for name, one in found.items() if one.low > above], [
        name for name, one in found.items() if one.high < above
    ]


def _alone(run: pd.DataFrame, read: Answered) -> Interval:
    """Return the mean over the trained sets with a bootstrap over instructions, of one seed."""
    return intervals.mean_interval(evaluation.paired([run], [run], read.trained)[0][0])


def _on(runs: Runs, sets: Sequence[str]) -> Interval:
    """Return the mean over some sets, each counting alike."""
    return evaluation.cell([run.loc[list(sets)] for run in runs], "")
