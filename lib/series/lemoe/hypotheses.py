"""The paper's claims as they are judged on draws of edits: comparisons, margins and gates, fixed before the runs.

Each reading of LEMoE has its own verdicts: ours (frozen projection, keys at the batch's mean) and the paper's wording
(trained projection, learned keys). Scores are after T = 100 edits in five batches; Avg and Loc are those with distant
questions (`drawn_scores.final`), which compare with the paper's. `power` tells why there are so many draws.
"""

from lib.intervals import DIFFERENCE, SHARE
from lib.reporting.claims import Claim, Comparison
from lib.series.lemoe import drawn_cases, gates

READINGS = {
    "learnt/lemoe": ("", "frozen projection, mean keys"),
    "learnt/lemoe_paper": ("_worded", "the paper's wording"),
}
FALLS = ("learnt/conventional", "learnt/memoe", "ewc")  # lifelong baselines whose first batch is compared
LOCAL = 0.99  # of distant answers: the paper's locality is 1.00
FORGETS = 0.1  # of Rel of the first batch
REROUTED = 0.1  # of tokens
CONSISTENT = 0.2  # more of the routes agree with training than conventional ones do
CLOSE = 0.05  # of Avg: the paper's .96 and .97 are closer
# The mean deviation of an order's Avg from the mean of ten: the best and the worst of ten are 3.9 times as far apart,
# so 10 points, half of the 20 that the paper speaks of.
SPREAD = 0.025


def factors() -> Claim:
    """Claim 1 without the order: a conventional adaptor forgets its first batch and routes differently."""
    return Claim(
        id="drawn_factors",
        text="A conventional adaptor forgets its first batch, and routes differently in training and at inference",
        source="LEMoE, Figures 1 and 2",
        comparisons=(
            Comparison("forgets", ">", FORGETS, DIFFERENCE),
            Comparison("routes differently", ">", REROUTED, SHARE),
        ),
        notebook="3_lemoe/3.1_factors",
        gate=gates.LEARNS,
    )


def spread(row: str) -> Claim:
    """Claim 1, the order: over ten random orders of one draw, Avg spreads, and more than over initial weights."""
    return Claim(
        id="drawn_spread_" + ("lemoe" if "lemoe" in row else "conventional"),
        text=f"{drawn_cases.title(row)}: what is kept depends on the order of the edits",
        source="LEMoE, Figure 3",
        comparisons=(
            Comparison("deviation of an order's Avg", ">", SPREAD, SHARE),
            Comparison("more than of other initial weights", ">", 0.0, DIFFERENCE),
        ),
        notebook="3_lemoe/3.1_factors",
        gate=gates.LEARNS,
    )


def rivals(mend_settled: bool) -> tuple[str, ...]:
    """Return the rows that claim 2 compares with: the paper's baselines, MEND where validation stopped its training.

    A network that its cap stopped is not the method of its name.
    """
    found = (*drawn_cases.ADAPTORS[1:], *drawn_cases.BASELINES)
    return found if mend_settled else tuple(row for row in found if row != "validated/mend")


def lifelong(row: str, mend_settled: bool) -> Claim:
    """Claim 2, Avg: above that of every baseline of the paper (whose MEMIT is MEMIT-MASS)."""
    suffix, reading = READINGS[row]
    return Claim(
        id=f"drawn_lifelong{suffix}",
        text=f"LEMoE ({reading}) has the best Avg of the paper's baselines in lifelong editing",
        source="LEMoE, main table",
        comparisons=tuple(Comparison(above(rival), ">", 0.0, DIFFERENCE) for rival in rivals(mend_settled)),
        notebook="3_lemoe/3.3_main_table",
        gate=gates.LEARNS,
    )


def above(rival: str) -> str:
    """Return the name of a comparison of `lifelong`."""
    return f"Avg above {drawn_cases.title(rival)}"


def beside_wise() -> Claim:
    """WISE, which the paper leaves out, against our reading: no claim of the paper's."""
    return Claim(
        id="drawn_wise",
        text="LEMoE (frozen projection, mean keys) has a better Avg than WISE-Merge in lifelong editing",
        source="ours: the paper leaves WISE out",
        comparisons=(Comparison(above("wise"), ">", 0.0, DIFFERENCE),),
        notebook="3_lemoe/3.3_main_table",
        gate=gates.LEARNS,
    )


def locality(row: str) -> Claim:
    """Claim 2, Loc: of distant answers at least `LOCAL` is kept."""
    suffix, reading = READINGS[row]
    return Claim(
        id=f"drawn_locality{suffix}",
        text=f"LEMoE ({reading}) keeps its locality at 1.00",
        source="LEMoE, main table",
        comparisons=(Comparison("Loc on distant questions", ">", LOCAL, SHARE),),
        notebook="3_lemoe/3.3_main_table",
        gate=gates.LEARNS,
    )


def forgetting(row: str) -> Claim:
    """Claim 2, second part: Rel of the first batch falls less, from after its own batch to the end."""
    suffix, reading = READINGS[row]
    return Claim(
        id=f"drawn_forgetting{suffix}",
        text=f"LEMoE ({reading}) forgets its first batch less than the lifelong baselines do",
        source="LEMoE, main and scaling tables",
        comparisons=tuple(Comparison(f"less than {drawn_cases.title(rival)}", "<", 0.0, DIFFERENCE) for rival in FALLS),
        notebook="3_lemoe/3.4_scaling",
        gate=gates.ALL_LEARN,
    )


def routing(row: str) -> Claim:
    """Claim 3: against conventional routing in the same clustered order; agreement is one number a draw."""
    suffix, reading = READINGS[row]
    return Claim(
        id=f"drawn_routing{suffix}",
        text=f"KV anchor routing ({reading}) raises routing consistency, and with it Rel and Gen",
        source="LEMoE, ablation of routing",
        comparisons=(
            Comparison("Rel", ">", 0.0, DIFFERENCE),
            Comparison("Gen", ">", 0.0, DIFFERENCE),
            Comparison("agreement", ">", CONSISTENT, DIFFERENCE),
        ),
        notebook="3_lemoe/3.6_ablations",
        gate=gates.LEARNS,
    )


def order() -> Claim:
    """Claim 4: clustered against random order, our reading, paired by draw and edit."""
    return Claim(
        id="drawn_order",
        text="Clustered order beats random order",
        source="LEMoE, ablation of order",
        comparisons=(Comparison("Avg, clustered minus random", ">", 0.0, DIFFERENCE),),
        notebook="3_lemoe/3.6_ablations",
        gate=gates.LEARNS,
    )


def batch() -> Claim:
    """Claim 5: all edits of a draw at once."""
    return Claim(
        id="drawn_batch",
        text="In batch editing LEMoE stays close to MEMoE",
        source="LEMoE, batch-editing table",
        comparisons=(Comparison(f"Avg at most {CLOSE} below MEMoE", ">", -CLOSE, DIFFERENCE),),
        notebook="3_lemoe/3.5_batch_editing",
        gate=gates.BOTH_LEARN,
    )


def every(mend_settled: bool = True) -> list[Claim]:
    """Return all claims on draws, in the order of the notebooks."""
    found = [factors(), *(spread(row) for row in drawn_cases.SPREAD)]
    for row in READINGS:
        found += [lifelong(row, mend_settled), locality(row)]
    found += [beside_wise(), *(forgetting(row) for row in READINGS), batch()]
    return [*found, *(routing(row) for row in READINGS), order()]
