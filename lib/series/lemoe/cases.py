"""The cases of the LEMoE series at a profile's size: the main table, orders, routing, ablations, passages, tuning."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import BaseModel

from lib import profiles, records
from lib.records import digests
from lib.registry import Registry
from lib.series.lemoe import baseline, edit_sets, frames, locality, run, slices
from lib.series.lemoe import workbench as benches
from lib.series.lemoe.edit_sets import edit_set
from lib.series.lemoe.rows import METHODS as REGISTRY
from lib.series.lemoe.rows import Row
from lib.series.lemoe.run import RunConfig
from lib.series.lemoe.variants import ABLATIONS, EXPERTS, ROUTING, ROWS, STEPS, TUNED, TUNING
from lib.series.lemoe.workbench import BenchConfig, Workbench

__all__ = ["ABLATIONS", "EXPERTS", "METHODS", "REGISTRY", "ROUTING", "STEPS", "TUNING", "cases", "edit_set", "slices"]

SERIES = "3_lemoe"
METHODS: Registry[Row] = REGISTRY | TUNED  # the rows of the main table
ORDERS = ("random", "kmeans", "hierarchical", "adversarial")


def workbench(profile: str) -> Workbench:
    """Return the workbench of a profile with all that any row needs, loaded once in a process."""
    chosen = profiles.profile(profile)
    return benches.workbench(
        chosen.backbone,
        chosen.backbone_layers,
        chosen.editing.dtype,
        chosen.device,
        _bench(("moments", "unrelated"), profile),
    )


def cases(profile: str) -> list[records.Case]:
    """Return every case of the series at a profile's size."""
    sizes = profiles.profile(profile).editing
    found = [main(method, count, profile) for method in METHODS for count in counts(METHODS[method], profile)]
    found += [
        ordered(m, order, seed, profile) for m in ("conventional", "lemoe") for order in ORDERS for seed in sizes.seeds
    ]
    found += [routed(name, seed, profile) for name in ROUTING for seed in routing_seeds(name, profile)]
    found += [ablation(name, profile) for name in ABLATIONS] + [experts(number, profile) for number in EXPERTS]
    found += [steps(number, profile) for number in STEPS]
    found += [at_once(method, profile) for method in BATCH]
    found += [passages(method, profile) for method in PASSAGES]
    found += [hard("lemoe", profile), known(profile), latency(profile)]
    found += [pushes(name, profile) for name in pushed(profile)]
    if not _tiny(profile):  # which runs without files of the user's
        found += [on_slice(name, method, profile) for name in slices.SLICES for method in ON_SLICES]
    return found + [tuning(name, profile) for name in TUNING if not _tiny(profile) or name in SHOWN]


BATCH = ("memit_mass", "memoe", "lemoe")
SHOWN = ("lemoe_layer_18", "ft_radius_2e-2")  # settings that tiny sizes show
PUSHED = ("lemoe", "ablation/layer_6", "ablation/layer_24", "ablation/locality_loss")  # whose push is measured
SCALES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)  # of the experts' output after training, in the same cases
HELD = (0, 1, 2, 4, 8, 16, 32, 64)  # experts whose forward pass is timed
TIMED = (8, 7)  # prompts of that pass, and how often it is timed
ON_SLICES = ("no_edit", "ft", "ewc", "grace", "wise", "lemoe", "lemoe_threshold")
PASSAGES = (
    "no_edit",
    "ft",
    "ewc",
    "lora",
    "defer",
    "grace",
    "wise",
    "conventional",
    "memoe",
    "lemoe",
    "lemoe_threshold",
)


def counts(row: Row, profile: str) -> list[int]:
    """Return the numbers of edits T that a row is run with, the columns of the main table."""
    sizes = profiles.profile(profile).editing
    every = sorted({*sizes.runs, sizes.ablation, sizes.most})
    if _tiny(profile) and all(row is not METHODS[name] for name in ("no_edit", "lemoe")):
        every = every[-1:]
    return [count for count in every if not row.slow or count <= sizes.slow]


def routing_seeds(name: str, profile: str) -> tuple[int, ...]:
    """Return the seeds of a variant of routing: all for the two that claim 3 compares, else the first."""
    seeds = profiles.profile(profile).editing.seeds
    return seeds if name in ("routing/shared", "routing/mean_keys") else seeds[:1]


def main(method: str, count: int, profile: str) -> records.Case:
    """Return the case of a cell of the main table: a method after T edits."""
    sizes = profiles.profile(profile).editing
    long = count >= sizes.ablation
    runs = sizes.runs.get(count, 1)
    config = configuration(method, "facts", count, profile, runs=runs, every_batch=long, generate=long)
    return _case(f"main/{method}/T{count}", config, 0, profile, count == sizes.ablation and METHODS[method].core)


def ordered(method: str, order: str, seed: int, profile: str) -> records.Case:
    """Return the case of a method whose edits are dealt in one order (Figures 1-3, claim 4)."""
    config = configuration(method, "facts", profiles.profile(profile).editing.ablation, profile, order=order)
    return _case(f"orders/{method}/{order}/seed{seed}", config, seed, profile, order in ("random", "kmeans"))


def routed(name: str, seed: int, profile: str) -> records.Case:
    """Return the case of a variant of routing (claim 3), by its name among the rows, such as "routing/oracle"."""
    config = configuration(name, "facts", profiles.profile(profile).editing.ablation, profile)
    return _case(f"{name}/seed{seed}", config, seed, profile)


def ablation(name: str, profile: str) -> records.Case:
    """Return the case of LEMoE with one thing changed, by its name among the rows, such as "ablation/entity"."""
    sizes = profiles.profile(profile).editing
    config = configuration(name, "facts", sizes.ablation, profile)
    if name.startswith("ablation/layer_") and _tiny(profile):  # which has four layers
        config = _set(config, layer=min(sizes.layer + 1, 3))
    return _case(name, config, 0, profile)


def experts(number: int, profile: str) -> records.Case:
    """Return the case of LEMoE with another number of experts, that is of batches."""
    count = profiles.profile(profile).editing.ablation
    config = configuration("lemoe", "facts", count, profile, batches=min(number, count))
    return _case(f"experts/{number}", config, 0, profile)


def fuller(profile: str) -> int:
    """Return the T at which an expert holds more edits than in the ablations: the column next above theirs."""
    sizes = profiles.profile(profile).editing
    return min((count for count in (*sizes.runs, sizes.most) if count > sizes.ablation), default=sizes.most)


def steps(number: int, profile: str) -> records.Case:
    """Return the case of LEMoE whose experts are trained for another number of steps, at `fuller` edits."""
    config = _set(configuration("lemoe", "facts", fuller(profile), profile), steps=number)
    return _case(f"steps/{number}", config, 0, profile)


def at_once(method: str, profile: str) -> records.Case:
    """Return the case of batch editing: all edits in one batch (claim 5)."""
    config = configuration(method, "facts", profiles.profile(profile).editing.ablation, profile, batches=1)
    return _case(f"batch/{method}", config, 0, profile, not METHODS[method].slow)


def passages(method: str, profile: str) -> records.Case:
    """Return the case of long factual edits, with their perplexity (the SelfCheckGPT column)."""
    count = profiles.profile(profile).editing.passages
    config = configuration(method, "passages", count, profile, every_batch=False, perplexity=True)
    return _case(f"passages/{method}", config, 0, profile)


def hard(method: str, profile: str) -> records.Case:
    """Return the case of a method on edits that contradict each other on purpose."""
    config = configuration(method, "hard", profiles.profile(profile).editing.ablation, profile)
    return _case(f"hard/{method}", config, 0, profile)


def on_slice(name: str, method: str, profile: str) -> records.Case:
    """Return the case of a method on the first edits of a benchmark's file; its record holds no text of the file."""
    count = profiles.profile(profile).editing.ablation
    asked = name == "selfcheckgpt"
    config = configuration(method, name, count, profile, every_batch=False, perplexity=asked)
    return _case(f"slices/{name}/{method}", config, 0, profile)


def tuning(name: str, profile: str) -> records.Case:
    """Return the case of one setting on the tuning split."""
    method, changes = TUNING[name]
    if _tiny(profile):
        changes = {key: value for key, value in changes.items() if key != "layer"}
    count = profiles.profile(profile).editing.tuning
    config = configuration(method, "tuning", count, profile, every_batch=False)
    return _case(f"tuning/{name}", _set(config, **changes), 0, profile)


def pushed(profile: str) -> tuple[str, ...]:
    """Return the rows whose push is measured; the first four layers have no other layers to compare."""
    return PUSHED[:1] if _tiny(profile) else PUSHED


def pushes(name: str, profile: str) -> records.Case:
    """Return the case that asks why unrelated answers change under a row of LEMoE, and what weaker experts would do."""
    run = configuration(name, "facts", profiles.profile(profile).editing.ablation, profile, every_batch=False)
    return _made(
        f"locality/{run.method}/seed0",
        profile,
        locality.LocalityConfig(run=run, scales=SCALES),
        _data("facts"),
        locality.study,
    )


def known(profile: str) -> records.Case:
    """Return the case that asks the unedited model for the true answers of all edits."""
    chosen = profiles.profile(profile)
    size = int(digests.kept(edit_sets.size, "facts"))
    config = baseline.KnownConfig(
        edits="facts",
        count=min(size, chosen.editing.most * 2) if _tiny(profile) else size,
        backbone=chosen.backbone,
        layers=chosen.backbone_layers,
        dtype=chosen.editing.dtype,
    )
    return _made("known/facts", profile, config, _edits("facts"), baseline.known, core=True)


def latency(profile: str) -> records.Case:
    """Return the case that times a forward pass with more and more experts; the seconds are provenance."""
    chosen = profiles.profile(profile)
    prompts, repeats = TIMED
    config = baseline.LatencyConfig(
        settings=REGISTRY["lemoe"].configure(chosen.editing),
        held=HELD,
        edits="facts",
        count=prompts,
        repeats=repeats,
        backbone=chosen.backbone,
        layers=chosen.backbone_layers,
        dtype=chosen.editing.dtype,
    )
    return _made("latency/experts", profile, config, _edits("facts"), baseline.latency, core=True)


def configuration(row: str, edits: str, count: int, profile: str, **changes: Any) -> RunConfig:
    """Return the configuration of a row on a set of edits at a profile's size, with some fields of it changed."""
    chosen, made = profiles.profile(profile), ROWS[row]
    settings = made.configure(chosen.editing)
    if "steps" in type(settings).model_fields:
        settings = settings.model_copy(update={"steps": min(settings.steps, chosen.editing.longest)})
    config = {
        "method": row.rpartition("/")[2],
        "row": row,
        "settings": settings,
        "edits": edits,
        "count": count,
        "runs": 1,
        "batches": 1 if made.at_once else chosen.editing.batches,
        "order": made.order,
        "backbone": chosen.backbone,
        "layers": chosen.backbone_layers,
        "dtype": chosen.editing.dtype,
        "bench": _bench(made.needs, profile),
        "every_batch": True,
        "generate": False,
        "perplexity": False,
    }
    return RunConfig(**{**config, **changes})


def _tiny(profile: str) -> bool:
    """Tell whether a profile has the sizes of `smoke`, which runs without files of the user's, or starts from it."""
    return profiles.origin(profile) == "smoke"


def _set(config: RunConfig, **settings: Any) -> RunConfig:
    """Return a configuration with some of its method's settings changed."""
    changed = {**config.settings.model_dump(), **settings}
    return config.model_copy(update={"settings": type(config.settings).model_validate(changed)})


def _bench(needs: tuple[str, ...], profile: str) -> BenchConfig:
    """Return what a workbench prepares at a profile's size for rows with these needs."""
    sizes = profiles.profile(profile).editing
    moments = {"moment_layers": sizes.located, "moment_tokens": sizes.moment_tokens} if "moments" in needs else {}
    return BenchConfig(**moments, unrelated=sizes.unrelated if "unrelated" in needs else 0)


def _edits(name: str) -> dict[str, str]:
    """Return the digest of a set of edits; that of a slice is its file's, so that no file is needed to name it."""
    if name in slices.SLICES:
        return {"edits": slices.SLICES[name].sha256}
    return {"edits": digests.kept(edit_sets.digest, name)}


def _data(edits: str) -> dict[str, str]:
    return _edits(edits) | {"texts": digests.kept(edit_sets.texts_digest)}


def _case(name: str, config: RunConfig, seed: int, profile: str, core: bool = False) -> records.Case:
    if "seed" in type(config.settings).model_fields:  # of fresh weights and draws, besides the order of the edits
        config = _set(config, seed=seed)
    name = name if name.endswith(f"seed{seed}") else f"{name}/seed{seed}"
    return _made(name, profile, config, _data(config.edits), run.edit_and_score, seed, core)


def _made(
    name: str,
    profile: str,
    config: BaseModel,
    data: Mapping[str, str],
    compute: Callable[[records.Case], records.Outcome],
    seed: int = 0,
    core: bool = False,
) -> records.Case:
    """Return a case of the series; in smoke each is a core one."""
    row: Literal["core", "extended"] = "core" if core or _tiny(profile) else "extended"
    schemas = frames.STUDIED if compute is locality.study else frames.EDITED
    return records.Case(f"{SERIES}/{name}", profile, config, data, seed, compute, row, frames=schemas)
