"""What the records of the series say today, in the one or two sentences with which each of its notebooks opens."""

from collections.abc import Sequence

from lib import profiles, records
from lib.intervals import Interval
from lib.reporting import claims
from lib.reporting.sentences import by_side, listed, number, spread
from lib.series.distillation import cases, compared, evaluation, language_cases, verdicts
from lib.series.distillation.answered import SHORT, Answered

DISTANCES = {"mse": "the mean squared difference of layer-normalised states"}
OPEN = "**In short.** Not recorded yet: {}."


def layers(profile: str) -> str:
    """Return how alike the paired layers of the uniform rule are after training with and without the middle loss."""
    first = profiles.profile(profile).distillation.seeds[0]
    found = {name: records.available(cases.main(name, first, profile)) for name in ("forward_kl", "ours")}
    told = {name: run.values for name, run in found.items() if run is not None}
    if len(told) < len(found):
        return OPEN.format("how alike the layers of teacher and student are")
    pairs = [(int(mine) - 1, its - 1) for mine, its in told["ours"]["map"].items()]
    without, with_it = (
        sum(told[name]["cka_after"][mine][its] for mine, its in pairs) / len(pairs) for name in ("forward_kl", "ours")
    )
    way = "raises" if with_it > without else "does not raise"
    return (
        "**In short.** Layers of unequal width can be compared by CKA (0: unrelated, 1: alike). The middle loss "
        f"{way} it between the layers that it pairs: {without:.2f} without, {with_it:.2f} with it (one training seed)."
    )


def setting(profile: str) -> str:
    """Return what the letters of the loss stand for in the main comparison: student, N, g, A, d and the weights."""
    sizes = profiles.profile(profile).distillation
    width, depth, heads = sizes.student
    found = records.available(cases.main("ours", sizes.seeds[0], profile))
    objective = cases.arm_config(cases.METHODS["ours"], profile).objective
    told = [
        f"In the main comparison the student is GPT-2-style: $N = {depth}$ blocks of width {width} with {heads} heads"
        + (f", {found.values['parameters'] / 1e6:.1f} million weights." if found else "."),
        f"The weights are {listed([f'{one:g}' for one in sizes.proportions])} for cross-entropy, output and middle.",
        f"$d$ is *{DISTANCES.get(objective.distance, objective.distance)}*, and each $A_l$ a learnt linear map.",
    ]
    if found:
        taken = [str(layer) for layer in found.values["map"].values()]
        told.append(f"$g$ pairs layers 1 to {depth} of the student with the teacher's {listed(taken)}.")
    return " ".join(told)


def main(profile: str) -> str:
    """Return what the middle loss gives beside the output loss, by the measure that the profile's claims go by."""
    if not language_cases.judges(profile):
        return answers(profile)
    outcome, known, seeds = _judged(profile, "middle")
    if not known:
        return OPEN.format("what the middle loss gives")
    words = {
        claims.SUPPORTED: "It does",
        claims.NOT_SUPPORTED: "It does not",
        claims.NOT_TESTABLE: "It cannot be tested at this size",
    }
    told = [f"{spread(one.interval, 3, signed=True)} for {one.comparison.name.partition(':')[0]}" for one in known]
    return (
        f"**In short.** {words.get(outcome, 'It is not shown')}. On sets that need language the middle loss "
        f"beside the output loss changes the held-out loss, in nats a token, by {listed(told)} (below 0 is better; "
        f"intervals for {number(len(known), 'student')} together, over {seeds})."
    )


def _judged(profile: str, claim: str) -> tuple[str, list[claims.Finding], str]:
    """Return the outcome of a claim on the language sets, its findings with an interval, and over how many seeds."""
    verdict = verdicts.by_claim(profile)[claim]
    known = [one for one in verdict.findings if one.interval is not None]
    return verdict.outcome, known, number(min((one.seeds for one in known), default=0), "training seed")


def answers(profile: str) -> str:
    """Return what the middle loss gives beside the output loss on the sets that are learnt, in points of ROUGE-L."""
    read = Answered(profile)
    gain = read.difference("ours", "forward_kl", read.trained)
    if gain is None:
        return OPEN.format("what the middle loss gives")
    found = by_side(gain, "It does", "It does not: it costs points", "It is not shown")
    seeds = number(len(read.sampled("ours")), "training seed")
    return (
        f"**In short.** {found}. With the middle loss beside the output loss the difference is "
        f"{spread(gain, 1, signed=True)} points of ROUGE-L over {seeds}: {between(gain)}."
    )


def between(gain: Interval) -> str:
    """Return an interval of a difference in words: `between 3.1 points worse and 0.7 better; sign undecided`."""
    low, high = (f"{abs(end):.1f} {'better' if end > 0 else 'worse'}" for end in (gain.low, gain.high))
    return f"between {low} and {high}{by_side(gain, '', '', '; sign undecided')}"


def ablations(profile: str) -> str:
    """Return how many controls, which should make the method useless, both losses beat."""
    if not language_cases.judges(profile):
        return controls_answered(profile)
    outcome, known, seeds = _judged(profile, "controls")
    if not known:
        return OPEN.format("the controls")
    kinds = [one.outcome for one in known]
    words = {
        claims.SUPPORTED: "The method beats all of them, so rule and module matter",
        claims.NOT_TESTABLE: "Whether rule and module matter cannot be tested at this size",
    }
    told = words.get(outcome, "So it is not shown that rule and module matter")
    return (
        f"**In short.** In held-out loss, of {number(len(known), 'comparison')} with controls (reversed or random "
        f"layers, a frozen projection; over {seeds}) the method wins {kinds.count(claims.SUPPORTED)} and loses "
        f"{kinds.count(claims.NOT_SUPPORTED)} by whole intervals. {told}."
    )


def controls_answered(profile: str) -> str:
    """Return the same by sampled answers on the older sets, of one training seed."""
    read = Answered(profile)
    ours = compared.first_seed(read, "ours")
    runs = {name: compared.changed(read, name) for name in compared.CONTROLS}
    known = {SHORT[name]: run for name, run in runs.items() if run is not None}
    if ours is None or not known:
        return OPEN.format("the controls")
    gaps = {name: evaluation.difference([ours], [run], read.trained) for name, run in known.items()}
    above, below = compared.told_apart(gaps)
    count = number(len(gaps), "control")
    if len(above) == len(gaps):
        return f"**In short.** The method beats all of {count}, of one training seed."
    return (
        f"**In short.** Of {count} the method beats {listed(above)} and loses to {listed(below)}, by 95 % intervals "
        "over test instructions of one training seed. So it is not shown that rule and module matter."
    )


def students(profile: str) -> str:
    """Return how many unlike students gain and lose by the middle loss."""
    frame = compared.pairs(Answered(profile))
    if frame.empty:
        return OPEN.format("students of other builds")
    gains = dict(zip(frame["student"], frame[compared.BOTH_MINUS_OUTPUT], strict=True))
    above, below = compared.told_apart(gains)
    return (
        f"**In short.** All {number(len(gains), 'student')} can be trained by the same lines. By whole intervals the "
        f"middle loss gains points for {quoted(above)} and loses points for {quoted(below)}; for the others the sign "
        "is open (one training seed each)."
    )


def quoted(names: Sequence[str]) -> str:
    """Return names listed in italics, so that a number at the end of one belongs to it; `none` where there are none."""
    return listed([f"*{name}*" for name in names])


def cost(profile: str) -> str:
    """Return how much longer a step with both losses takes than plain training, teacher cached and live."""
    found = records.available(cases.cost(profile))
    if found is None:
        return OPEN.format("the time of a step")
    seconds = {name: one["seconds"] for name, one in found.provenance["cost"].items()}
    cached, live = (seconds[f"ours/{how}"] / seconds["sft/cached"] for how in ("cached", "live"))
    return (
        f"**In short.** A step with both losses takes {cached:.1f} times as long as plain training where the teacher's "
        f"part is read from disk, and {live:.1f} times as long where the teacher runs beside it."
    )
