"""The cases of the LEMoE series at a profile's size: the main table, orders, routing, ablations, passages, tuning."""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Literal

from lib import profiles, records
from lib.editing import fact_edits
from lib.editing.edits import Edit
from lib.lemoe import experiment, locality, slices
from lib.lemoe.experiment import RunConfig
from lib.lemoe.methods import METHODS as REGISTRY
from lib.lemoe.methods import Row, Workbench, lemoe_config, lemoe_row
from lib.lemoe.variants import ABLATIONS, EXPERTS, ROUTING, STEPS, TUNED, TUNING
from lib.text import factbook

SERIES = "3_lemoe"
CODE = ("lib.lemoe.experiment",)
METHODS: dict[str, Row] = REGISTRY | TUNED  # the rows of the main table


@dataclass(frozen=True)
class EditSet:
    """Edits in their fixed order, and the digest of them."""

    name: str
    edits: tuple[Edit, ...]
    digest: str


@lru_cache(maxsize=8)
def edit_set(name: str) -> EditSet:
    """Return a set of edits: "facts", "tuning", "hard", "passages" or a slice; raises `KeyError` for another name."""
    made = {
        "facts": lambda: fact_edits.fact_edits(),
        "tuning": lambda: fact_edits.fact_edits("tuning"),
        "hard": lambda: fact_edits.hard_edits(),
        "passages": passage_edits,
        **{one: partial(slices.edits, one) for one in slices.SLICES},
    }[name]()
    return EditSet(name, tuple(made), fact_edits.content_hash(made))


def passage_edits() -> list[Edit]:
    """Return long factual edits in SelfCheckGPT's manner: the first half of a passage is to yield the second.

    The locality question of each is the opening of a passage about another country, with its own continuation.
    """
    halves = [factbook.halves(passage) for passage in factbook.passages("locality")]
    middle = len(halves) // 2
    return [
        Edit(prompt, target, locality=halves[middle + number % (len(halves) - middle)], identity=f"passage/{number}")
        for number, (prompt, target) in enumerate(halves[:middle])
    ]


@lru_cache(maxsize=1)
def _texts() -> str:
    """Return the digest of all long text of the series."""
    return factbook.content_hash([*factbook.passages("moments"), *factbook.passages("unrelated")])


@lru_cache(maxsize=1)
def workbench(profile: str) -> Workbench:
    """Load the backbone of a profile, once in a process."""
    chosen = profiles.profile(profile)
    return Workbench(chosen.backbone, chosen.backbone_layers, chosen.device, chosen.editing)


def cases(profile: str) -> list[records.Case]:
    """Return every case of the series at a profile's size."""
    sizes = profiles.profile(profile).editing
    found = [main(method, count, profile) for method in METHODS for count in counts(METHODS[method], profile)]
    found += [
        ordered(m, order, seed, profile)
        for m in ("conventional", "lemoe")
        for order in experiment.ORDERS
        for seed in sizes.seeds
    ]
    found += [routed(name, seed, profile) for name in ROUTING for seed in routing_seeds(name, profile)]
    found += [ablation(name, profile) for name in ABLATIONS] + [experts(number, profile) for number in EXPERTS]
    found += [steps(number, profile) for number in STEPS]
    found += [at_once(method, profile) for method in BATCH]
    found += [passages(method, profile) for method in PASSAGES]
    found += [hard("lemoe", profile), known(profile), latency(profile)]
    found += [pushes(name, profile) for name in pushed(profile)]
    if profile != "smoke":  # which runs without files of the user's
        found += [on_slice(name, method, profile) for name in slices.SLICES for method in ON_SLICES]
    return found + [tuning(name, profile) for name in TUNING if profile != "smoke" or name in SHOWN]


BATCH = ("memit_mass", "memoe", "lemoe")
SHOWN = ("lemoe_layer_18", "ft_radius_2e-2")  # settings that tiny sizes show
DEAR = ("lora",)  # minutes a run, and no row of the paper's
PUSHED = ("lemoe", "layer_6", "layer_24", "locality_loss")  # rows whose push on unrelated texts is measured
HELD = (0, 1, 2, 4, 8, 16, 32, 64)  # experts whose forward pass is timed
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
    if profile == "smoke" and row.name not in ("no_edit", "lemoe"):
        every = every[-1:]
    return [count for count in every if not row.slow or count <= sizes.slow]


def routing_seeds(name: str, profile: str) -> tuple[int, ...]:
    """Return the seeds of a variant of routing: all for the two that claim 3 compares, else the first."""
    seeds = profiles.profile(profile).editing.seeds
    return seeds if name in ("shared", "mean_keys") else seeds[:1]


def main(method: str, count: int, profile: str) -> records.Case:
    """Return the case of a cell of the main table: a method after T edits."""
    sizes, row = profiles.profile(profile).editing, METHODS[method]
    long = count >= sizes.ablation
    config = configuration(row, "facts", count, profile, runs=sizes.runs.get(count, 1), every_batch=long, generate=long)
    core = count == sizes.ablation and not row.slow and row.core and method not in DEAR
    return _case(f"main/{method}/T{count}", config, row, 0, profile, core)


def ordered(method: str, order: str, seed: int, profile: str) -> records.Case:
    """Return the case of a method whose edits are dealt in one order (Figures 1-3, claim 4)."""
    row = METHODS[method]
    config = configuration(row, "facts", profiles.profile(profile).editing.ablation, profile, order=order)
    return _case(f"orders/{method}/{order}/seed{seed}", config, row, seed, profile, order in ("random", "kmeans"))


def routed(name: str, seed: int, profile: str) -> records.Case:
    """Return the case of a variant of routing (claim 3)."""
    config = configuration(ROUTING[name], "facts", profiles.profile(profile).editing.ablation, profile)
    return _case(f"routing/{name}/seed{seed}", config, ROUTING[name], seed, profile, False)


def ablation(name: str, profile: str) -> records.Case:
    """Return the case of LEMoE with one thing changed."""
    sizes, row = profiles.profile(profile).editing, ABLATIONS[name]
    if name.startswith("layer_") and profile == "smoke":
        row = lemoe_row(name, row.title, layer=min(sizes.layer + 1, 3))
    return _case(f"ablation/{name}", configuration(row, "facts", sizes.ablation, profile), row, 0, profile, False)


def experts(number: int, profile: str) -> records.Case:
    """Return the case of LEMoE with another number of experts, that is of batches."""
    row, sizes = METHODS["lemoe"], profiles.profile(profile).editing
    config = configuration(row, "facts", sizes.ablation, profile, batches=min(number, sizes.ablation))
    return _case(f"experts/{number}", config, row, 0, profile, False)


def fuller(profile: str) -> int:
    """Return the T at which an expert holds more edits than in the ablations: the column next above theirs."""
    sizes = profiles.profile(profile).editing
    return min((count for count in (*sizes.runs, sizes.most) if count > sizes.ablation), default=sizes.most)


def steps(number: int, profile: str) -> records.Case:
    """Return the case of LEMoE whose experts are trained for another number of steps, at `fuller` edits."""
    row = METHODS["lemoe"]
    config = configuration(row, "facts", fuller(profile), profile)
    config = config.model_copy(update={"settings": {**config.settings, "steps": number}})
    return _case(f"steps/{number}", config, row, 0, profile, False)


def at_once(method: str, profile: str) -> records.Case:
    """Return the case of batch editing: all edits in one batch (claim 5)."""
    row = METHODS[method]
    config = configuration(row, "facts", profiles.profile(profile).editing.ablation, profile, batches=1)
    return _case(f"batch/{method}", config, row, 0, profile, not row.slow)


def passages(method: str, profile: str) -> records.Case:
    """Return the case of long factual edits, with their perplexity (the SelfCheckGPT column)."""
    row, sizes = METHODS[method], profiles.profile(profile).editing
    config = configuration(row, "passages", sizes.passages, profile, every_batch=False, perplexity=True)
    return _case(f"passages/{method}", config, row, 0, profile, False)


def hard(method: str, profile: str) -> records.Case:
    """Return the case of a method on edits that contradict each other on purpose."""
    row = METHODS[method]
    config = configuration(row, "hard", profiles.profile(profile).editing.ablation, profile)
    return _case(f"hard/{method}", config, row, 0, profile, False)


def on_slice(name: str, method: str, profile: str) -> records.Case:
    """Return the case of a method on the first edits of a benchmark's file; its record holds no text of the file."""
    row, wanted = METHODS[method], slices.SLICES[name]
    config = configuration(row, name, profiles.profile(profile).editing.ablation, profile, every_batch=False)
    config = config.model_copy(update={"perplexity": name == "selfcheckgpt"})
    return _case(f"slices/{name}/{method}", config, row, 0, profile, False, digest=wanted.sha256)


def tuning(name: str, profile: str) -> records.Case:
    """Return the case of one setting on the tuning split."""
    method, changes = TUNING[name]
    row, sizes = METHODS[method], profiles.profile(profile).editing
    if profile == "smoke":
        changes = {key: value for key, value in changes.items() if key != "layer"}
    config = configuration(row, "tuning", sizes.tuning, profile, every_batch=False)
    config = config.model_copy(update={"settings": {**config.settings, **changes}})
    return _case(f"tuning/{name}", config, row, 0, profile, False)


def pushed(profile: str) -> tuple[str, ...]:
    """Return the rows whose push is measured; the first four layers have no other layers to compare."""
    return PUSHED[:1] if profile == "smoke" else PUSHED


def pushes(name: str, profile: str) -> records.Case:
    """Return the case that asks why unrelated answers change under a row of LEMoE, and what weaker experts would do."""
    row, pool = (METHODS | ABLATIONS)[name], edit_set("facts")
    config = configuration(row, "facts", profiles.profile(profile).editing.ablation, profile, every_batch=False)

    def compute() -> records.Outcome:
        found = locality.study(config, row, workbench(profile), pool.edits, 0)
        return records.Outcome(values={}, frames=found._asdict())

    return records.Case(
        name=f"{SERIES}/locality/{name}/seed0",
        profile=profile,
        config={"run": config.model_dump(mode="json"), "scales": list(locality.SCALES)},
        data={"edits": pool.digest, "texts": _texts()},
        code=("lib.lemoe.locality",),
        seed=0,
        compute=compute,
        row="core" if profile == "smoke" else "extended",
    )


def known(profile: str) -> records.Case:
    """Return the case that asks the unedited model for the true answers of all edits."""
    chosen, edits = profiles.profile(profile), edit_set("facts")
    count = min(len(edits.edits), chosen.editing.most * 2 if profile == "smoke" else len(edits.edits))

    def compute() -> records.Outcome:
        bench = workbench(profile)
        found = fact_edits.known(bench.model, bench.tokenizer, edits.edits[:count])
        return records.Outcome(values={"known": [int(one) for one in found]})

    return records.Case(
        name=f"{SERIES}/known/facts",
        profile=profile,
        config={"count": count, "backbone": chosen.backbone, "layers": chosen.backbone_layers},
        data={"edits": edits.digest},
        code=("lib.editing.fact_edits", "lib.backbones"),
        seed=0,
        compute=compute,
        row="core",
    )


def latency(profile: str) -> records.Case:
    """Return the case that times a forward pass with more and more experts; the seconds are provenance."""
    chosen = profiles.profile(profile)
    config = lemoe_config(chosen.editing)

    def compute() -> records.Outcome:
        found = experiment.seconds_by_experts(workbench(profile), config, HELD, edit_set("facts").edits[:8])
        return records.Outcome(values={"experts": list(HELD)}, cost={"seconds_by_experts": found})

    return records.Case(
        name=f"{SERIES}/latency/experts",
        profile=profile,
        config={"settings": config.model_dump(mode="json"), "held": list(HELD), "layers": chosen.backbone_layers},
        data={"edits": edit_set("facts").digest},
        code=CODE,
        seed=0,
        compute=compute,
        row="core",
    )


def configuration(row: Row, edits: str, count: int, profile: str, **changes: Any) -> RunConfig:
    """Return the configuration of a row on a set of edits at a profile's size."""
    chosen = profiles.profile(profile)
    config = RunConfig(
        method=row.name,
        settings=_capped(row.configure(chosen.editing).model_dump(mode="json"), chosen.editing.longest),
        edits=edits,
        count=count,
        runs=1,
        batches=1 if row.at_once else chosen.editing.batches,
        order=row.order,
        backbone=chosen.backbone,
        layers=chosen.backbone_layers,
        dtype=chosen.editing.dtype,
        every_batch=True,
        generate=False,
        perplexity=False,
    )
    return config.model_copy(update=changes)


def _capped(settings: dict[str, Any], longest: int) -> dict[str, Any]:
    return settings | ({"steps": min(settings["steps"], longest)} if "steps" in settings else {})


def _case(
    name: str, config: RunConfig, row: Row, seed: int, profile: str, core: bool, digest: str | None = None
) -> records.Case:
    kind: Literal["core", "extended"] = "core" if core or profile == "smoke" else "extended"
    if "seed" in config.settings:  # of fresh weights and draws, besides the order of the edits
        config = config.model_copy(update={"settings": {**config.settings, "seed": seed}})

    def compute() -> records.Outcome:
        return _compute(config, row, seed, profile)

    return records.Case(
        name=f"{SERIES}/{name}" if name.endswith(f"seed{seed}") else f"{SERIES}/{name}/seed{seed}",
        profile=profile,
        config=config,
        data={"edits": digest or edit_set(config.edits).digest, "texts": _texts()},
        code=CODE,
        seed=seed,
        compute=compute,
        row=kind,
    )


def _compute(config: RunConfig, row: Row, seed: int, profile: str) -> records.Outcome:
    """Run one experiment; the scores of every edit are the raw outputs that every figure comes from."""
    bench, pool = workbench(profile), edit_set(config.edits).edits
    found = experiment.run(config, row, bench, pool, seed)
    frames = {"scores": found.scores}
    if len(found.routes):
        frames["routes"] = found.routes
    return records.Outcome(
        values=found.values,
        frames=frames,
        cost={"seconds_an_edit": round(sum(found.seconds) / (config.count * config.runs), 3)},
    )
