"""What a profile needs before it runs: `python -m lib.running.plan --profile paper [--card h100]`.

By series: the user's files and models that are missing, all at once; GPU memory and hours, computed from the
configuration; and hours measured, where records say so. `--write` renews the table of docs/paper_scale.md.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lib import paths, profiles
from lib.errors import UserError, command
from lib.files import write_text
from lib.records import digests
from lib.reporting import pages
from lib.running import case_queue, catalogue, costs, needs, reckoning
from lib.running.costs import GIB, Card, Cost

if TYPE_CHECKING:
    from lib.records import Case

PAGE = paths.ROOT / "docs" / "paper_scale.md"
ON_PAGE = "h100"  # the card that the page's table is of
HEAD = (
    "Series",
    "Cases (core)",
    "Largest case",
    "Weights",
    "Gradients",
    "Optimiser",
    "Activations (checkpointed)",
    "Other",
    "Card, GiB (checkpointed)",
    "Cases that fit",
    "Hours, core rows",
    "Hours, all rows",
)


@dataclass(frozen=True)
class Planned:
    """A case and what it costs."""

    case: "Case"
    cost: Cost


def listed(profile: str, only: Sequence[str] = ()) -> dict[str, list[Planned]]:
    """Return the cases of a profile by series, with their costs, from the configuration alone: no file is opened."""
    with digests.unread():
        cases = catalogue.find(only, profile)
        found: dict[str, list[Planned]] = {}
        for case in cases:
            found.setdefault(case.name.split("/")[0], []).append(Planned(case, reckoning.of(case)))
    return found


def table(planned: dict[str, list[Planned]], card: Card) -> str:
    """Return a row for each series as Markdown: bytes of its largest case by parts, in GiB, and hours; all computed."""
    rows = [HEAD, ("---",) * len(HEAD)]
    for series, found in planned.items():
        largest = max(found, key=lambda one: one.cost.memory.least)
        memory = largest.cost.memory
        core = [one for one in found if one.case.row == "core"]
        parts = (memory.weights, memory.gradients, memory.optimiser)
        kept = f"{_gib(memory.activations)} ({_gib(min(memory.activations, memory.checkpointed))})"
        rows.append(
            (
                series,
                f"{len(found)} ({len(core)})",
                f"`{largest.case.name.partition('/')[2]}`",
                *map(_gib, parts),
                kept,
                _gib(memory.cache),
                f"{_gib(memory.total)} ({_gib(memory.least)})",
                f"{_fitting(found, card, 'total')} ({_fitting(found, card, 'least')})",
                _hours(core, card),
                _hours(found, card),
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _fitting(found: Sequence[Planned], card: Card, which: str) -> int:
    return sum(getattr(one.cost.memory, which) <= card.gib * GIB for one in found)


def _gib(count: float) -> str:
    return f"{count / GIB:.1f}" if count < 100 * GIB else f"{count / GIB:.0f}"


def _hours(found: Sequence[Planned], card: Card) -> str:
    hours = sum(one.cost.seconds(card) for one in found) / 3600
    return f"{hours:.1f}" if hours < 100 else f"{hours:.0f}"


def measured(found: Sequence[Planned]) -> str:
    """Return what records of the profile say: how many cases were computed, and in how many hours."""
    taken = [seconds for one in found if (seconds := case_queue.seconds(one.case)) is not None]
    if not taken:
        return "measured: nothing, no case of it has a record"
    return (
        f"measured: {len(taken)} of {len(found)} cases in {sum(taken) / 3600:.2f} hours, where their records were made"
    )


def missing(profile: str, series: Sequence[str]) -> list[str]:
    """Return a line for each series: what of its files and models is missing, and whether it can be used."""
    lines = []
    for name in series:
        wanted = [need for need in needs.of(profile) if need.series == name]
        lacking = [need for need in wanted if not need.is_there()]
        if not wanted:
            told = "nothing of yours is needed"
        elif not lacking:
            told = f"all {len(wanted)} files and models are there"
        else:
            stops = "" if any(not need.optional for need in lacking) else " (its other rows run without them)"
            told = f"{len(lacking)} of {len(wanted)} files and models are missing{stops}:"
        lines.append(f"{name}: {told}")
        lines += [f"    {'model ' if need.is_model else ''}{need.place}, for {need.prefix}" for need in lacking]
    return lines


def told(profile: str, only: Sequence[str], card: Card, name: str) -> str:
    """Return the whole plan as a command prints it."""
    chosen = profiles.profile(profile)
    planned = listed(profile, only)
    lines = [f"profile {profile}: {chosen.about}", "", *missing(profile, list(planned)), ""]
    rate = f"{card.operations / 1e12:.3g} x {card.share:g} TFLOP/s, {card.gib:g} GiB"
    lines += [f"computed from the configuration, on one card {name} ({rate}); memory in GiB:", "", table(planned, card)]
    lines += ["", *(f"{series}: {measured(found)}" for series, found in planned.items())]
    return "\n".join(lines)


def on_page(profile: str = "paper") -> str:
    """Return the table of the page."""
    return table(listed(profile), costs.card(ON_PAGE))


def renewed(text: str) -> str:
    """Return the page with today's table; `UserError` where it has no place for one."""
    return pages.renewed(text, PAGE, {"plan": on_page()})


def main() -> int:
    """Print the plan of a profile, or write the page's table."""
    parser = argparse.ArgumentParser(prog="python -m lib.running.plan", description=__doc__)
    parser.add_argument("--profile", default="paper", help="its name, or the file of one's own")
    parser.add_argument("--only", nargs="+", default=[], metavar="PREFIX", help="names of cases, or where they begin")
    parser.add_argument("--card", help=f"one of {', '.join(costs.CARDS)}")
    parser.add_argument("--flops", type=float, help="operations a second that training reaches, instead of the card's")
    parser.add_argument("--write", action="store_true", help="renew the table of docs/paper_scale.md")
    arguments = parser.parse_args()
    if arguments.write:
        write_text(PAGE, renewed(PAGE.read_text(encoding="utf-8")))
        return 0
    if arguments.flops is not None and not 1e6 <= arguments.flops <= 1e20:
        raise UserError(f"--flops {arguments.flops:g}: give operations a second, as in 3e14")
    profile = profiles.named(arguments.profile)
    name = arguments.card or ("h100" if profiles.profile(profile).device == "cuda" else "cpu")
    print(told(profile, arguments.only, costs.card(name, arguments.flops), name))
    return 0


if __name__ == "__main__":
    command(main)
