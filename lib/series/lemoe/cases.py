"""The cases of the LEMoE series at a profile's size: the main table, orders, routing, ablations, passages, tuning."""

from lib import profiles, records
from lib.records import digests
from lib.registry import Registry
from lib.series.lemoe import baseline, drawn_cases, edit_files, edit_sets, file_runs, locality
from lib.series.lemoe import workbench as benches
from lib.series.lemoe.configurations import bench, case, changed, configuration, data, made, of_own, place, tiny
from lib.series.lemoe.edit_files import SLICES
from lib.series.lemoe.edit_sets import edit_set
from lib.series.lemoe.rows import METHODS as REGISTRY
from lib.series.lemoe.rows import Row
from lib.series.lemoe.variants import ABLATIONS, EXPERTS, ROUTING, ROWS, STEPS, TUNED, TUNING
from lib.series.lemoe.workbench import Workbench

__all__ = ["ABLATIONS", "EXPERTS", "METHODS", "REGISTRY", "ROUTING", "SLICES", "STEPS", "TUNING", "cases", "edit_set"]

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
        bench(("moments", "unrelated"), profile),
    )


def cases(profile: str) -> list[records.Case]:
    """Return every case of the series at a profile's size; one `UserError` names all files that it lacks."""
    sizes = profiles.profile(profile).editing
    edit_files.require(profile)
    found = tables(profile)
    found += [
        ordered(m, order, seed, profile) for m in ("conventional", "lemoe") for order in ORDERS for seed in sizes.seeds
    ]
    found += [routed(name, seed, profile) for name in ROUTING for seed in routing_seeds(name, profile)]
    found += [ablation(name, profile) for name in ABLATIONS] + [experts(number, profile) for number in EXPERTS]
    found += [steps(number, profile) for number in STEPS]
    found += [hard("lemoe", profile), known(profile), latency(profile)]
    found += [pushes(name, profile) for name in pushed(profile)]
    found += [on_slice(name, method, profile) for name in slices(profile) for method in ON_SLICES]
    found += [tuning(name, profile) for name in TUNING if not tiny(profile) or name in SHOWN]
    return found + drawn_cases.cases(profile)


def tables(profile: str) -> list[records.Case]:
    """Return the cases of the main table and of scaling, of batch editing, and of passages: on all that they ask."""
    sizes, rows = profiles.profile(profile).editing, methods(profile)
    found = []
    for backbone in backbones(profile):
        for edits in sizes.sets:
            found += [main(m, count, profile, edits, backbone) for m in rows for count in counts(rows[m], profile)]
            found += [at_once(method, profile, edits, backbone) for method in BATCH]
        found += [passages(method, profile, backbone) for method in passage_methods(profile)]
    return found


def methods(profile: str) -> Registry[Row]:
    """Return the rows of the main table."""
    more = profiles.profile(profile).editing.rows
    return METHODS | Registry("method", {name: ROWS[name] for name in more}) if more else METHODS


def passage_methods(profile: str) -> tuple[str, ...]:
    """Return the rows of the column with perplexity: all methods where the profile wants every row."""
    return tuple(REGISTRY) if profiles.profile(profile).editing.all_core else PASSAGES


def backbones(profile: str) -> tuple[str, ...]:
    """Return the models that the tables are made for, the profile's own first."""
    chosen = profiles.profile(profile)
    return tuple(dict.fromkeys((chosen.backbone, *chosen.editing.backbones)))


def others(profile: str) -> list[tuple[str, str]]:
    """Return set and model of the profile's tables of methods, but for the first, which all figures are of."""
    return [(edits, one) for one in backbones(profile) for edits in profiles.profile(profile).editing.sets][1:]


def slices(profile: str) -> tuple[str, ...]:
    """Return the files whose first edits are a table of their own: those that the other tables are not made of."""
    if tiny(profile):  # which runs without files of the user's
        return ()
    sizes = profiles.profile(profile).editing
    return tuple(name for name in SLICES if name not in (*sizes.sets, sizes.long_set))


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
    if tiny(profile) and all(row is not METHODS[name] for name in ("no_edit", "lemoe")):
        every = every[-1:]
    return [count for count in every if not row.slow or count <= sizes.slow]


def routing_seeds(name: str, profile: str) -> tuple[int, ...]:
    """Return the seeds of a variant of routing: all for the two that claim 3 compares, else the first."""
    seeds = profiles.profile(profile).editing.seeds
    return seeds if name in ("routing/shared", "routing/mean_keys") else seeds[:1]


def main(method: str, count: int, profile: str, edits: str | None = None, backbone: str | None = None) -> records.Case:
    """Return the case of a cell of the main table: a method after T edits, of the profile's first set by default."""
    sizes = profiles.profile(profile).editing
    long = count >= sizes.ablation
    told = {"runs": sizes.runs.get(count, 1), "every_batch": long, "generate": long}
    config = configuration(method, edits, count, profile, backbone, **told)
    core = sizes.all_core or (count == sizes.ablation and methods(profile)[method].core)
    return case(f"main/{method}{place(config, profile)}/T{count}", config, 0, profile, core)


def ordered(method: str, order: str, seed: int, profile: str) -> records.Case:
    """Return the case of a method whose edits are dealt in one order (Figures 1-3, claim 4)."""
    config = configuration(method, None, profiles.profile(profile).editing.ablation, profile, order=order)
    name = f"orders/{method}{place(config, profile)}/{order}/seed{seed}"
    return case(name, config, seed, profile, order in ("random", "kmeans"))


def routed(name: str, seed: int, profile: str) -> records.Case:
    """Return the case of a variant of routing (claim 3), by its name among the rows, such as "routing/oracle"."""
    config = configuration(name, None, profiles.profile(profile).editing.ablation, profile)
    return case(f"{name}{place(config, profile)}/seed{seed}", config, seed, profile)


def ablation(name: str, profile: str) -> records.Case:
    """Return the case of LEMoE with one thing changed, by its name among the rows, such as "ablation/entity"."""
    sizes = profiles.profile(profile).editing
    config = configuration(name, None, sizes.ablation, profile)
    if name.startswith("ablation/layer_") and tiny(profile):  # which has four layers
        config = changed(config, layer=min(sizes.layer + 1, 3))
    return case(f"{name}{place(config, profile)}", config, 0, profile)


def experts(number: int, profile: str) -> records.Case:
    """Return the case of LEMoE with another number of experts, that is of batches."""
    count = profiles.profile(profile).editing.ablation
    config = configuration("lemoe", None, count, profile, batches=min(number, count))
    return case(f"experts/{number}{place(config, profile)}", config, 0, profile)


def fuller(profile: str) -> int:
    """Return the T at which an expert holds more edits than in the ablations: the column next above theirs."""
    sizes = profiles.profile(profile).editing
    return min((count for count in (*sizes.runs, sizes.most) if count > sizes.ablation), default=sizes.most)


def steps(number: int, profile: str) -> records.Case:
    """Return the case of LEMoE whose experts are trained for another number of steps, at `fuller` edits."""
    config = changed(configuration("lemoe", None, fuller(profile), profile), steps=number)
    return case(f"steps/{number}{place(config, profile)}", config, 0, profile)


def at_once(method: str, profile: str, edits: str | None = None, backbone: str | None = None) -> records.Case:
    """Return the case of batch editing: all edits in one batch (claim 5)."""
    sizes = profiles.profile(profile).editing
    config = configuration(method, edits, sizes.ablation, profile, backbone, batches=1)
    core = sizes.all_core or not METHODS[method].slow
    return case(f"batch/{method}{place(config, profile)}", config, 0, profile, core)


def passages(method: str, profile: str, backbone: str | None = None) -> records.Case:
    """Return the case of long factual edits, with their perplexity (the SelfCheckGPT column)."""
    sizes = profiles.profile(profile).editing
    told = {"every_batch": False, "perplexity": True}
    config = configuration(method, sizes.long_set, sizes.passages, profile, backbone, **told)
    return case(f"passages/{method}{place(config, profile)}", config, 0, profile, sizes.all_core)


def hard(method: str, profile: str) -> records.Case:
    """Return the case of a method on edits that contradict each other on purpose."""
    config = configuration(method, "hard", profiles.profile(profile).editing.ablation, profile)
    return case(f"hard/{method}", config, 0, profile)


def on_slice(name: str, method: str, profile: str) -> records.Case:
    """Return the case of a method on the first edits of a benchmark's file; its record holds no text of the file."""
    count = profiles.profile(profile).editing.ablation
    asked = name == "selfcheckgpt"
    config = configuration(method, name, count, profile, every_batch=False, perplexity=asked)
    return case(f"slices/{edit_files.label(name, config.digest)}/{method}", config, 0, profile)


def tuning(name: str, profile: str) -> records.Case:
    """Return the case of one setting on the tuning split."""
    method, changes = TUNING[name]
    if tiny(profile):
        changes = {key: value for key, value in changes.items() if key != "layer"}
    count = profiles.profile(profile).editing.tuning
    config = configuration(method, "tuning", count, profile, every_batch=False)
    return case(f"tuning/{name}", changed(config, **changes), 0, profile)


def pushed(profile: str) -> tuple[str, ...]:
    """Return the rows whose push is measured; the first four layers have no other layers to compare."""
    return PUSHED[:1] if tiny(profile) else PUSHED


def pushes(name: str, profile: str) -> records.Case:
    """Return the case that asks why unrelated answers change under a row of LEMoE, and what weaker experts would do."""
    run = configuration(name, None, profiles.profile(profile).editing.ablation, profile, every_batch=False)
    return made(
        f"locality/{run.method}{place(run, profile)}/seed0",
        profile,
        locality.LocalityConfig(run=run, scales=SCALES),
        data(run),
        file_runs.study if run.digest else locality.study,
    )


def known(profile: str) -> records.Case:
    """Return the case that asks the unedited model for the true answers of all edits."""
    chosen = profiles.profile(profile)
    size = int(digests.kept(edit_sets.size, "facts"))
    config = baseline.KnownConfig(
        edits="facts",
        count=min(size, chosen.editing.most * 2) if tiny(profile) else size,
        backbone=chosen.backbone,
        layers=chosen.backbone_layers,
        dtype=chosen.editing.dtype,
    )
    return made("known/facts", profile, config, of_own("facts"), baseline.known, core=True)


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
    return made("latency/experts", profile, config, of_own("facts"), baseline.latency, core=True)
