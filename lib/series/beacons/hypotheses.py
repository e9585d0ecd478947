"""The paper's claims as step 11 judges them: comparisons, margins and gates, all fixed before the runs.

Every seed draws facts of its own (`lib.beacons.draws`); none of them is among those on whose records the margins were
chosen. `power` reckons from those records how many seeds that takes: ten decide claims 1 and 2, twenty the arms. Holm's
correction is within a claim.
"""

from collections.abc import Mapping

from lib.intervals import DIFFERENCE, SHARE
from lib.reporting.claims import Claim, Comparison, Gate
from lib.series.beacons import gates

# What a "notable risk" is: more than one fact in twenty. Whoever teaches twenty facts, few for one session of editing,
# then meets it once. It is no quantile of anything seen: a hundred facts gave .08, .13 and .09 with three seeds.
NOTABLE = 0.05
# What counts as lost by learning together: the same share of facts, of the trained prompt or of a paraphrase.
LOST = 0.05

SOURCE = "Beacons, abstract; definitions ours"
CONTROL = "Beacons, abstract (the control is ours)"
# Each arm of a filter or a weighing, and what it must be better than for its claim; then the direction controls.
PLAINER = {"plain": "all", "random": "random"}
WEIGHED = {"plain": "plain", "permuted": "permuted"}


def pushed() -> Claim:
    """Claim 1, on the way: facts are pushed away after some update, more of them than towards a target of no meaning.

    Without the second an answer that is merely shaken would do: the control learns another fact's target.
    """
    return Claim(
        id="pushed",
        text="PEFT carries a notable risk of pushing the model away from the knowledge target on the way there",
        source="Beacons, abstract, claim 1",
        comparisons=(
            Comparison("more than one fact in twenty is ever pushed", ">", NOTABLE, SHARE),
            Comparison("more often than towards a shuffled target, at equal d(0)", ">", 0.0, DIFFERENCE),
        ),
        notebook="2_beacons/2.2_one_fact",
        gate=gates.LEARNT,
    )


def pushed_last() -> Claim:
    """Claim 1, in the end: whether facts are still pushed away after the last update, or only pass through it."""
    return Claim(
        id="pushed_last",
        text="PEFT leaves a notable share of facts pushed away from their target after the last update",
        source="Beacons, abstract, claim 1 (the reading is ours)",
        comparisons=(Comparison("more than one fact in twenty is pushed at the end", ">", NOTABLE, SHARE),),
        notebook="2_beacons/2.2_one_fact",
        gate=gates.LEARNT,
    )


LEARNING = {"prompt, equal updates per fact": "per_fact", "prompt, equal total steps": "total"}
EXPRESSION = ("paraphrase, equal updates per fact", "paraphrase of facts learnt both ways, equal updates per fact")


def learning() -> Claim:
    """Claim 2, learning: alone more facts are right on the trained prompt than among N, under both budgets.

    At equal total steps each fact is seen less, so that this alone would prove nothing.
    """
    return Claim(
        id="learning",
        text="Several facts learned together interfere, which suppresses their learning",
        source=SOURCE,
        comparisons=tuple(Comparison(name, ">", LOST, DIFFERENCE) for name in LEARNING),
        notebook="2_beacons/2.3_many_facts",
        gate=gates.RIGHT_ALONE,
    )


def expression() -> Claim:
    """Claim 2, expression: alone more are right on a paraphrase than among N, also of those learnt both ways.

    The second takes out what was lost in learning already: both trainings know these facts by their prompt.
    """
    return Claim(
        id="expression",
        text="Several facts learned together interfere, which suppresses their expression in other words",
        source=SOURCE,
        comparisons=tuple(Comparison(name, ">", LOST, DIFFERENCE) for name in EXPRESSION),
        notebook="2_beacons/2.3_many_facts",
        gate=gates.EXPRESSED_ALONE,
    )


def filtering(arm: str, title: str) -> Claim:
    """Claim 3 in one reading: right on the full set, above a random subset and above plain training (margin 0)."""
    return _better(
        f"filter_{arm}",
        f"A data filter that excludes facts harmful to knowledge learning helps (reading {title})",
        "2_beacons/2.4_filters",
        {f"full set, minus {name}": name for name in PLAINER},
    )


def filter_direction() -> Claim:
    """Whether the direction of filter A matters: right on the full set, above its reverse."""
    return _better(
        "filter_direction",
        "It is near targets of high variance that help: filter A beats its reverse",
        "2_beacons/2.4_filters",
        {"full set, minus reversed": "reversed"},
        source=CONTROL,
    )


def reweighting() -> Claim:
    """Claim 4: right on all facts with weights by distance, above the plain loss and above permuted weights."""
    return _better(
        "reweighting",
        "A re-weighted loss that makes the model attentive to semantic distance helps",
        "2_beacons/2.5_reweighting",
        {f"right, minus {name}": name for name in WEIGHED},
    )


def weight_direction() -> Claim:
    """Whether the sign of the weights matters: more weight on far facts, above more weight on near ones."""
    return _better(
        "weight_direction",
        "It is far facts that should weigh more: weights by distance beat those of the other sign",
        "2_beacons/2.5_reweighting",
        {"right, minus sign flipped": "flipped"},
        source=CONTROL,
    )


def every() -> list[Claim]:
    """Return all claims of the series, in the order of the notebooks."""
    filters = [filtering("a", "A"), filtering("b", "B"), filter_direction()]
    return [pushed(), pushed_last(), learning(), expression(), *filters, reweighting(), weight_direction()]


def _better(
    name: str, text: str, notebook: str, than: Mapping[str, str], gate: Gate = gates.ROOM, source: str = SOURCE
) -> Claim:
    comparisons = tuple(Comparison(title, ">", 0.0, DIFFERENCE) for title in than)
    return Claim(id=name, text=text, source=source, comparisons=comparisons, notebook=notebook, gate=gate)
