"""The cases on draws of edits: columns of the main table, orders of one draw, all at once, slices, locality.

They stand beside the cases of `cases`, and are missing until the queue of `budget` has computed them.
"""

import re
from typing import Literal

from lib import profiles, records
from lib.registry import Registry
from lib.series.lemoe import drawn, edit_files, file_runs, frames, mend_training
from lib.series.lemoe.configurations import SERIES, changed, configuration, data, of_own, tiny
from lib.series.lemoe.mend_training import TrainingConfig
from lib.series.lemoe.rows import METHODS, Row
from lib.series.lemoe.run import RunConfig
from lib.series.lemoe.stopped import LOCALITY, STOPPED
from lib.series.lemoe.variants import ROWS, TUNED

# A claim names them: the readings of LEMoE, the adaptors it is built against, and the paper's baselines.
READINGS = ("learnt/lemoe", "learnt/lemoe_paper")
ADAPTORS = ("learnt/conventional", "learnt/memoe")
BASELINES = ("ft_last", "ewc", "validated/mend", "rome", "memit_mass", "defer", "grace")
NAMED = (*READINGS, *ADAPTORS, *BASELINES, "wise")
OTHER_ORDER = ("learnt/conventional_clustered", "learnt/lemoe_random")  # at one T, for claims about order and routing
SHOWN = (
    "no_edit",
    "ft",
    "lora",
    "memit",
    "memit_tuned",
    "memit_mass_tuned",
    "alphaedit",
    "wise_retrieve",
    "learnt/lemoe_null",
    "learnt/lemoe_threshold",
)
TABLE = (*NAMED, *SHOWN)  # the rows of the main table
AT_ONCE = ("learnt/lemoe", "learnt/memoe")
SPREAD = ("learnt/conventional_random", "learnt/lemoe_random")  # whose ten orders are compared
# Of ZsRE and CounterFact; MEND's network is trained on our own facts.
ON_FILES = (
    "no_edit",
    *(row for row in NAMED if row != "validated/mend"),
    "learnt/lemoe_null",
    "learnt/lemoe_threshold",
)
ON_PASSAGES = ("no_edit", "ft_last", "learnt/lemoe")  # of SelfCheckGPT, whose long targets cost most
FEW_PASSAGES = 20
LONG_CAP = 100  # steps on a batch of such targets, at most


def cases(profile: str) -> list[records.Case]:
    """Return the cases on draws of edits; only profiles of the sizes of `smoke` and `cpu` have them."""
    sizes = profiles.profile(profile).editing
    if profiles.origin(profile) not in ("smoke", "cpu"):
        return []
    found = [training(profile)]
    found += [
        column(row, count, draw, profile)
        for row in TABLE
        for count in counts(row, profile)
        for draw in draws(row, count, profile)
    ]
    found += [column(row, longest(profile), draw, profile) for row in OTHER_ORDER for draw in sizes.close_draws]
    found += [at_once(row, draw, profile) for row in AT_ONCE for draw in sizes.close_draws]
    found += [ordered(row, seed, profile) for row in SPREAD for seed in sizes.order_seeds]
    found += [weighted(row, seed, profile) for row in SPREAD for seed in sizes.order_seeds]
    found += [] if tiny(profile) else [on_file(row, name, profile) for name in FILES for row in FILES[name]]
    return found + [locality(name, profile) for name in tried(profile)]


FILES = {"zsre": ON_FILES, "counterfact": ON_FILES, "selfcheckgpt": ON_PASSAGES}
_ROWS: Registry[Row] = METHODS | TUNED | STOPPED


def tried(profile: str) -> list[str]:
    """Return the names of the settings of `LOCALITY` that a profile tries."""
    return [name for name in LOCALITY if not tiny(profile) or name in ("as it is", "all of it")]


def title(row: str) -> str:
    """Return what a table calls a row."""
    return _ROWS[row].title


def longest(profile: str) -> int:
    """Return the T whose every draw a claim rests on: the largest but one of the columns."""
    columns = sorted(profiles.profile(profile).editing.drawn)
    return columns[-1] if tiny(profile) else columns[-2]


def counts(row: str, profile: str) -> list[int]:
    """Return the numbers of edits T of a row; of those that cost seconds an edit only named ones have the largest."""
    every = sorted(profiles.profile(profile).editing.drawn)
    return [count for count in every if count <= longest(profile) or row in NAMED or not _ROWS[row].slow]


def draws(row: str, count: int, profile: str) -> tuple[int, ...]:
    """Return the draws of a row in a column: most where claims are judged, of the rows they name; else the first."""
    sizes = profiles.profile(profile).editing
    if count > longest(profile) or row not in (*NAMED, *OTHER_ORDER):
        return sizes.draws[:1]
    return sizes.close_draws if count == longest(profile) else sizes.draws


def column(row: str, count: int, draw: int, profile: str) -> records.Case:
    """Return the case of a row after T edits of a draw."""
    runs = profiles.profile(profile).editing.drawn[count]
    told = {"runs": runs, "every_batch": runs == 1, "generate": runs == 1}
    return _case(f"drawn/columns/{row}/T{count}", configuration(row, "facts", count, profile, **told), draw, profile)


def at_once(row: str, draw: int, profile: str) -> records.Case:
    """Return the case of batch editing: all edits of a draw in one batch."""
    config = configuration(row, "facts", longest(profile), profile, batches=1, every_batch=False)
    return _case(f"drawn/at_once/{row}", config, draw, profile)


def ordered(row: str, seed: int, profile: str) -> records.Case:
    """Return the case of one random order of the edits of the first draw; initial weights are the same in all."""
    config = configuration(row, "facts", profiles.profile(profile).editing.ablation, profile)
    return _case(f"drawn/orders/{row}", config, seed, profile, draw=0, weights=0)


def weighted(row: str, seed: int, profile: str) -> records.Case:
    """Return the case of other initial weights on the same edits in the same order: what orders are held against."""
    config = configuration(row, "facts", profiles.profile(profile).editing.ablation, profile, every_batch=False)
    return _case(f"drawn/weights/{row}", config, seed, profile, draw=0, order=0)


def locality(name: str, profile: str) -> records.Case:
    """Return the case of LEMoE with one change that may bring its locality to 1.00, on the tuning split."""
    row, changes = LOCALITY[name]
    config = configuration(row, "tuning", profiles.profile(profile).editing.tuning, profile, every_batch=False)
    place = re.sub(r"[^\w-]+", "_", name, flags=re.ASCII)
    return _case(f"drawn/locality/{place}", changed(config, **changes), 0, profile)


def on_file(row: str, name: str, profile: str) -> records.Case:
    """Return the case of a row on the first edits of a benchmark's file; its record holds no text of the file."""
    long = name == "selfcheckgpt"
    count = FEW_PASSAGES if long else profiles.profile(profile).editing.ablation
    config = configuration(row, name, count, profile, every_batch=False, perplexity=long)
    if long and row in STOPPED:
        config = changed(config, steps=LONG_CAP)
    return records.Case(
        f"{SERIES}/drawn/slices/{edit_files.label(name, config.digest)}/{row}/seed0",
        profile,
        config,
        data(config),
        0,
        file_runs.edit_and_score,
        "extended",
        frames=frames.DRAWN,
    )


def training(profile: str) -> records.Case:
    """Return the case that trains MEND's network until its validation edits say so."""
    chosen = profiles.profile(profile)
    sizes = chosen.editing
    config = TrainingConfig(
        settings=ROWS["validated/mend"].configure(sizes),
        count=sizes.mend_validation + sizes.tuning if tiny(profile) else 400,
        validation=sizes.mend_validation,
        backbone=chosen.backbone,
        layers=chosen.backbone_layers,
        dtype=sizes.dtype,
    )
    return records.Case(
        f"{SERIES}/mend/network", profile, config, of_own("tuning"), 0, mend_training.train, _kind(profile)
    )


def _case(
    name: str,
    run: RunConfig,
    seed: int,
    profile: str,
    draw: int | None = None,
    order: int | None = None,
    weights: int | None = None,
) -> records.Case:
    """Return the case of a draw; its seed decides draw, order and initial weights, but for those that are given."""
    if "seed" in type(run.settings).model_fields and run.row != "validated/mend":
        run = changed(run, seed=seed if weights is None else weights)
    if "packed" in type(run.settings).model_fields:
        run = changed(run, packed=True)
    config = drawn.DrawConfig(
        run=run,
        draw=seed if draw is None else draw,
        spacing=profiles.profile(profile).editing.spacing,
        order_seed=seed if order is None else order,
    )
    return records.Case(
        f"{SERIES}/{name}/seed{seed}",
        profile,
        config,
        data(run),
        seed,
        mend_training.edit_and_score if run.row == "validated/mend" else drawn.edit_and_score,
        _kind(profile),
        frames=frames.DRAWN,
        inputs={"network": training(profile)} if run.row == "validated/mend" else {},
    )


def _kind(profile: str) -> Literal["core", "extended"]:
    return "core" if tiny(profile) else "extended"
