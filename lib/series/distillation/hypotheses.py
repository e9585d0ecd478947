"""The paper's claims as they are judged here: comparisons, gates and training seeds, all fixed before the runs.

First measure: the held-out loss on the answers that are given, nats a token, on the test rows of all language sets,
each set counting alike. Second: ROUGE-L of greedy answers. Sampled answers are shown and judge nothing. Every claim is
gated (`gates`); margins are 0. Seeds draw weights, the order of rows, and the rows themselves; they stand in the
profile: ten for what the main claims compare, three for all else (docs/distillation.md).
"""

import math
from collections.abc import Mapping, Sequence

from lib.reporting.claims import POINTS_UNIT, Claim, Comparison
from lib.series.distillation.evaluation import POINTS_APART
from lib.series.distillation.gates import GATE

LOSS_UNIT = "nats"  # a token
SOURCE = "Heterogeneous distillation, abstract"
TITLES = {"gpt2": "GPT-2 style", "llama": "Llama style"}
# Rules that learn the proportions while the student learns; of them the one of least validation loss is judged.
JOINT = ("proportions_uncertainty", "proportions_gradnorm", "proportions_dynamic")
CONTROLS = {"rule_reversed": "reversed layers", "rule_random": "random layers", "module_frozen": "a frozen projection"}
LEARNT_MINUS = {"ours": "learnt minus fixed proportions", "forward_kl": "learnt proportions minus output only"}
HALVES = ("nearest", "farthest")


def of_student(student: str, other: str = "output only") -> str:
    """Return the name of a comparison of ours with another row on one of the two main students."""
    return f"{TITLES[student]}: ours minus {other}"


def middle(students: Sequence[str]) -> Claim:
    """The middle loss lowers the held-out loss beside the output loss, on every student whose gate holds."""
    return Claim(
        id="middle",
        text="The middle-layer loss helps heterogeneous distillation, at equal steps (held-out loss)",
        source=SOURCE,
        comparisons=tuple(Comparison(of_student(student), "<", unit=LOSS_UNIT) for student in students),
        notebook="4_hetero_kd/4.2_main_table",
        gate=GATE,
    )


def middle_answers(students: Sequence[str]) -> Claim:
    """The same of greedy answers, in points of ROUGE-L."""
    return Claim(
        id="middle_answers",
        text="The middle-layer loss makes better answers, at equal steps (greedy ROUGE-L)",
        source=SOURCE,
        comparisons=tuple(Comparison(of_student(student), ">", 0.0, POINTS_APART, POINTS_UNIT) for student in students),
        notebook="4_hetero_kd/4.2_main_table",
        gate=GATE,
    )


def controls(students: Sequence[str]) -> Claim:
    """Ours has a lower held-out loss than with layers or a projection that mean nothing."""
    return Claim(
        id="controls",
        text="The mapping rule and the alignment module matter: ours beats reversed, random and frozen controls",
        source=SOURCE,
        comparisons=tuple(
            Comparison(of_student(student, told), "<", unit=LOSS_UNIT)
            for student in students
            for told in CONTROLS.values()
        ),
        notebook="4_hetero_kd/4.3_ablations",
        gate=GATE,
    )


def proportions() -> Claim:
    """Proportions that are optimised jointly are better than fixed ones, and better than no middle loss."""
    return Claim(
        id="proportions",
        text="Optimising the proportions of the losses jointly helps",
        source=SOURCE,
        comparisons=tuple(Comparison(name, "<", unit=LOSS_UNIT) for name in LEARNT_MINUS.values()),
        notebook="4_hetero_kd/4.3_ablations",
        gate=GATE,
    )


def heterogeneous() -> Claim:
    """The middle loss helps students that are built like their teacher, and as well those that are not."""
    return Claim(
        id="heterogeneous",
        text="What the middle-layer loss gives does not ask for a shared structure",
        source=SOURCE,
        comparisons=tuple(
            Comparison(f"{half} students: ours minus output only", "<", unit=LOSS_UNIT) for half in HALVES
        ),
        notebook="4_hetero_kd/4.4_heterogeneity",
        gate=GATE,
    )


def distance(style: str, layers: int, width: int, teacher: tuple[int, int]) -> float:
    """Return how far a student's build is from a Llama-style teacher's of so many layers and that width (our choice).

    Doublings that its depth and its width are apart, and one more for another type of block.
    """
    apart = (abs(math.log2(mine / its)) for mine, its in zip((layers, width), teacher, strict=True))
    return sum(apart) + (style != "llama")


def halves(distances: Mapping[str, float]) -> dict[str, list[str]]:
    """Return the students of either half by distance; of an odd number the one in the middle is in neither."""
    order = sorted(distances, key=lambda name: (distances[name], name))
    size = len(order) // 2
    return dict(zip(HALVES, (order[:size], order[len(order) - size :]), strict=True))


def every() -> list[Claim]:
    """Return all claims, on both students, in the order of the notebooks."""
    students = tuple(TITLES)
    return [middle(students), middle_answers(students), controls(students), proportions(), heterogeneous()]
