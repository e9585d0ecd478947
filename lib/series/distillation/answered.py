"""The scores of the recorded rows of the main comparison, as notebooks tell and draw them; read when asked for."""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import pandas as pd

from lib import profiles, records
from lib.intervals import Interval
from lib.series.distillation import cases, evaluation
from lib.series.distillation.world import Splits
from lib.text import suites
from lib.text.instructions import Instruction

Runs = Sequence[pd.DataFrame]  # one a training seed
TEACHER = "teacher"
# As readers see the rows: every loss stands beside the cross-entropy. The registry keeps its own titles.
TOLD = {"forward_kl": "output loss: forward KL", "middle": "middle loss", "ours": "both losses"}
TITLES = {name: row.title for name, row in (cases.METHODS | cases.ABLATIONS).items()} | {TEACHER: TEACHER} | TOLD
SHORT = TITLES | {"sft": "cross-entropy alone", "forward_kl": "output loss"}  # beside another row


class Answered:
    """Test answers of a profile as scores: `sampled` and `greedy` of a row, a frame a training seed.

    Rows of which a seed is missing are left out; `trivial` are those without a model, by title.
    """

    def __init__(self, profile: str) -> None:
        """Name the profile; nothing is read before it is asked for."""
        self.profile = profile
        self.sizes = profiles.profile(profile).distillation
        suite = suites.SUITES[self.sizes.suite]
        self.trained, self.tested, self.held_out = suite.trained, suite.tested, suite.tested[-1]
        self._known: dict[tuple[str, bool], Runs] = {}
        self.rewriting = [name for name in evaluation.REWRITING if name in self.tested] or list(self.trained)

    @cached_property
    def splits(self) -> Splits:
        """Return the instruction sets."""
        return Splits.load(cases.data_config(self.profile))

    @cached_property
    def items(self) -> dict[str, Instruction]:
        """Return the test instructions by identity."""
        return {item.identity: item for item in self.splits.test}

    def records_of(self, name: str) -> list[records.Record] | None:
        """Return the records of a row of the main table, or of the teacher, a seed each; None unless all are there."""
        several = [cases.teacher(self.profile)]
        if name != TEACHER:
            several = [cases.main(name, seed, self.profile) for seed in cases.seeds(name, self.profile)]
        # Read anew each time, and not kept: what a notebook writes names the records that were read for it.
        return records.whole(several)

    @property
    def names(self) -> list[str]:
        """Return the rows that are recorded, the teacher first."""
        return [name for name in (TEACHER, *cases.METHODS) if self.records_of(name)]

    def sampled(self, name: str) -> Runs:
        """Return the scores of a recorded row's sampled answers, a mean over decoding seeds."""
        return self._scores(name, True)

    def greedy(self, name: str) -> Runs:
        """Return the scores of a recorded row's greedy answers."""
        return self._scores(name, False)

    def _scores(self, name: str, sampled: bool) -> Runs:
        runs = self.records_of(name) or []
        if (name, sampled) not in self._known:
            self._known[name, sampled] = [evaluation.of_test(run, self.items, sampled) for run in runs]
        return self._known[name, sampled]

    @cached_property
    def trivial(self) -> dict[str, pd.DataFrame]:
        """Return the scores of the rows without a model."""
        return evaluation.trivial(self.splits.train, self.splits.test)

    def of_trained(self, runs: Runs) -> list[pd.DataFrame]:
        """Return runs without the set that is held out."""
        return [run.loc[list(self.trained)] for run in runs]

    def mean(self, runs: Runs, metric: str = "rouge") -> Interval:
        """Return the mean over the trained sets, each counting alike, with its interval."""
        return evaluation.cell(self.of_trained(runs), "", metric)

    @property
    def example(self) -> str:
        """Return the set of which single answers are shown: today's English, else the first of the profile."""
        names = [item.name for item in self.splits.test]
        return "modern" if "modern" in names else names[0]

    def difference(self, one: str, other: str, sets: Sequence[str], greedy: bool = False) -> Interval | None:
        """Return one row minus another on some sets, over the seeds that both have; None unless both are recorded."""
        if not (self.records_of(one) and self.records_of(other)):
            return None
        sides = [self._scores(name, not greedy) for name in (one, other)]
        most = max(map(len, sides))
        # A teacher has one training, whatever the student's seed.
        paired = [
            list(side) * most if name == TEACHER else side for name, side in zip((one, other), sides, strict=True)
        ]
        count = min(map(len, paired))
        return evaluation.difference(paired[0][:count], paired[1][:count], sets)

    def side_by_side(self, names: Sequence[str], wanted: str, count: int, greedy: bool = True) -> pd.DataFrame:
        """Return the answers of some rows to the first test instructions of a set: asked, wanted, a column a row.

        Of the first training seed; greedy, or sampled at the first decoding seed.
        """
        chosen = [item for item in self.splits.test if item.name == wanted][:count]
        asked = [item.input or item.instruction for item in chosen]
        frame = pd.DataFrame({"set": wanted, "asked": asked, "wanted": [item.output for item in chosen]})
        seed = evaluation.GREEDY if greedy else self.sizes.decoding_seeds[0]
        for name in names:
            if found := self.records_of(name):
                outputs = found[0].frames["outputs"]
                texts = outputs[(outputs["split"] == "test") & (outputs["seed"] == seed)].set_index("identity")["text"]
                frame[TITLES[name]] = [texts[item.identity] for item in chosen]
        return frame

    def main_table(self) -> pd.DataFrame:
        """Return ROUGE-L of sampled answers: the teacher, the rows without a model, and every recorded method."""
        rows: dict[str, Runs] = {name: self.sampled(name) for name in self.names if name == TEACHER}
        rows |= {title: [run] for title, run in self.trivial.items()}
        rows |= {name: self.sampled(name) for name in self.names}
        return pd.DataFrame([self._row(name, runs) for name, runs in rows.items()], dtype=object)

    def _row(self, name: str, runs: Runs) -> dict[str, Any]:
        cells = {self.told_set(one): evaluation.cell(runs, one) for one in self.tested}
        seeds = None if name in self.trivial else len(runs)
        return {"method": TITLES.get(name, name), "seeds": seeds, **cells, "mean of the four": self.mean(runs)}

    def told_set(self, name: str) -> str:
        """Return a set's name, with a mark on the one that is held out."""
        return f"{name} (held out)" if name == self.held_out else name

    def details(self) -> pd.DataFrame:
        """Return what ROUGE-L of sampled answers does not say: greedy and exact answers, changed words, lengths."""
        columns: dict[str, Callable[[str], float]] = {
            "ROUGE-L, greedy": lambda name: self.mean(self.greedy(name)).estimate,
            "exact, sampled (%)": lambda name: self.mean(self.sampled(name), "exact").estimate,
            "exact, greedy (%)": lambda name: self.mean(self.greedy(name), "exact").estimate,
        }
        for one in (name for name in self.rewriting if name in evaluation.REWRITING):  # elsewhere nothing is rewritten
            columns[f"changed words, {one}"] = partial(self._changed, one)
        columns["tokens"] = lambda name: float(self.sampled(name)[0]["tokens"].mean())
        rows = [{"method": TITLES[n], **{title: of(n) for title, of in columns.items()}} for n in self.names]
        return pd.DataFrame(rows, dtype=object)

    def _changed(self, name: str, method: str) -> float:
        return evaluation.cell(self.sampled(method), name, "changed").estimate

    def beyond_no_model(self, method: str) -> pd.DataFrame:
        """Return, by tested set, the mean ROUGE-L of a method, sampled and greedy, beside the rows without a model."""
        rows = []
        for name in self.tested:
            bars = {title: float(evaluation.set_means(run)[name]) for title, run in self.trivial.items()}
            both = {"sampled": self.sampled(method), "greedy": self.greedy(method)}
            scores = {how: evaluation.cell(runs, name).estimate for how, runs in both.items()}
            rows.append({"set": self.told_set(name), **scores, **bars})
        return pd.DataFrame(rows)

    def remembered(self) -> dict[str, float]:
        """Return, by tested set, the share of test rows with a right answer among the answers of the training rows."""
        return evaluation.remembered(self.splits.train, self.splits.test)
