"""The cases of the InfoDiffusion series at a profile's size: rows of Table 1, ablations, sampling sweeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lib import profiles, records
from lib.diffusion import tracing
from lib.diffusion.model import DiffusionModel
from lib.errors import UserError
from lib.seq2seq import batches, decoding, training
from lib.series.infodiffusion import frames, sweep, tasks
from lib.series.infodiffusion.rows import CHEAPEST, MODELS, ROWS, VARIANTS
from lib.series.infodiffusion.run import Experiment, RunConfig, train
from lib.series.infodiffusion.tasks import TASKS

SERIES = "1_infodiffusion"
TITLES = {name: row.title for name, row in TASKS.items()}
# The pair that the claims compare, and the model whose weights (first task, first seed) travel with its record.
PAIR = ("infodiffusion", "diffuseq")
PUBLISHED = "infodiffusion"
CORE_TASKS = (CHEAPEST, "paraphrase")  # whose pair each run from scratch computes, with one seed
SWEPT_TASKS = (CHEAPEST, "simplification")  # where steps matter: all seeds are drawn from in all numbers of them
ABLATION_TASK = RIVALS_TASK = CHEAPEST


def tasks_of(profile: str) -> list[str]:
    """Return the tasks that a profile gives sizes for, in the order of the table."""
    return [name for name in TASKS if name in profiles.profile(profile).diffusion.tasks]


def tasks_shown(profile: str) -> list[str]:
    """Return the tasks that notebooks show: the paper's, and others whose pair of models is recorded, or is tiny."""
    seed = profiles.profile(profile).diffusion.seeds[0]

    def recorded(name: str) -> bool:
        found = [case(name, model, seed, profile) for model in PAIR]
        return all(one.row == "core" or records.status(one) == "current" for one in found)

    return [name for name in tasks_of(profile) if TASKS[name].core or recorded(name)]


def task_sizes(name: str, profile: str) -> profiles.TaskSizes:
    """Return the sizes of a task; raises `UserError` for an unknown one, and for one without sizes in the profile."""
    known = profiles.profile(profile).diffusion.tasks
    if TASKS[name] and name not in known:
        raise UserError(f"task {name} has no sizes in profile {profile}: add them in lib/profiles")
    return known[name]


def data(name: str, profile: str) -> tasks.DataConfig:
    """Return what decides the text of a task at a profile's size; raises as `task_sizes`."""
    sizes, own = profiles.profile(profile).diffusion, task_sizes(name, profile)
    return tasks.DataConfig(
        task=name,
        data=own.data,
        vocabulary=sizes.vocabulary,
        train_pairs=sizes.train_pairs,
        whole=own.whole_verses > 0,
        window=batches.Window(*own.window),
    )


def task(name: str, profile: str) -> tasks.Loaded:
    """Load the pairs of a task at a profile's size, and the vocabulary; raises as `task_sizes` and `tasks.load`."""
    return tasks.load(data(name, profile))


def configuration(name: str, model: str, profile: str) -> RunConfig:
    """Return the configuration of one row on a task at a profile's size; ablations have a smaller budget."""
    sizes, own, row = profiles.profile(profile).diffusion, task_sizes(name, profile), ROWS[model]
    text, ablation = data(name, profile), model in VARIANTS
    content = tasks.described(text)
    steps = sizes.ablation_steps if ablation else row.budget(own)
    every = max(1, steps // sizes.curve_points)
    return RunConfig(
        **dict(text),
        model=model,
        test_pairs=sizes.ablation_pairs if ablation else own.test_pairs,
        whole_verses=own.whole_verses if model in PAIR else 0,
        watch_at=tuple(range(every, steps + 1, every)),
        method=row.configure(sizes, content["words"], content["end"]),
        training=training.TrainingConfig(
            steps=steps,
            tokens=sizes.tokens,
            micro_tokens=sizes.micro_tokens,
            checkpointing=sizes.checkpointing and row.checkpoints,
            optimiser=sizes.optimiser,
            rate=row.rate or sizes.rate,
            **row.trained(sizes),
        ),
        decoding=decoding.DecodingConfig(candidates=sizes.ablation_candidates if ablation else sizes.candidates),
        keep=model in PAIR,  # the sampling sweeps need them again
        **row.traced(sizes),
    )


def experiment(name: str, model: str, profile: str) -> Experiment:
    """Return the experiment of one row on a task, its data loaded."""
    return Experiment.of(configuration(name, model, profile), profiles.profile(profile).device)


def cases(profile: str, prefixes: Sequence[str] = ()) -> list[records.Case]:
    """Return every case of the series at a profile's size, or those of the tasks that begin so: no other is read."""
    sizes, names = profiles.profile(profile).diffusion, tasks_named(prefixes, profile)
    found = [
        case(name, model, seed, profile)
        for name in names
        for model in rows_of(name, profile)
        for seed in seeds_of(name, model, profile)
    ]
    if ABLATION_TASK in names:
        found += [ablation(variant, seed, profile) for variant in VARIANTS for seed in ablation_seeds(variant, profile)]
    swept = {name: sizes.seeds if name in SWEPT_TASKS else sizes.seeds[:1] for name in names}
    return found + [sampling(name, model, seed, profile) for name in names for model in PAIR for seed in swept[name]]


def tasks_named(prefixes: Sequence[str], profile: str) -> list[str]:
    """Return the tasks that cases beginning so are on; all for none, and for a prefix that names no task."""
    every, found = tasks_of(profile), set()
    for prefix in prefixes:
        parts = [part for part in prefix.split("/")[1:] if part != "sampling"]
        named = ABLATION_TASK if parts[:1] == ["ablation"] else "".join(parts[:1])
        found |= {named} if named in every else set(every)
    return [name for name in every if not prefixes or name in found]


def rows_of(name: str, profile: str) -> list[str]:
    """Return the rows that a task has at a profile's size: all of Table 1, and some of our own."""
    return [
        model
        for model, row in MODELS.items()
        if (not row.only or name in row.only) and (not row.profiles or profiles.origin(profile) in row.profiles)
    ]


def seeds_of(name: str, model: str, profile: str) -> tuple[int, ...]:
    """Return the training seeds of a row on a task: all for the pair, and on the rivals' task for every row."""
    every = profiles.profile(profile).diffusion.seeds
    return every if MODELS[model].replicated or name == RIVALS_TASK else every[:1]


def ablation_seeds(variant: str, profile: str) -> tuple[int, ...]:
    """Return the training seeds of a row of the ablations."""
    every = profiles.profile(profile).diffusion.ablation_seeds
    return every if VARIANTS[variant].replicated else every[:1]


def case(name: str, model: str, seed: int, profile: str) -> records.Case:
    """Return the case of one row of Table 1 on one task with one seed, see `own_seed`."""
    seed = own_seed(seed, profile)
    config = configuration(name, model, profile)
    if (name, model, seed) == (next(iter(TASKS)), PUBLISHED, profiles.profile(profile).diffusion.seeds[0]):
        config = config.model_copy(update={"publish": True})
    core = MODELS[model].core and name in CORE_TASKS and seed == profiles.profile(profile).diffusion.seeds[0]
    core = core or profiles.profile(profile).diffusion.all_core
    return _trained(f"{SERIES}/{name}/{model}/seed{seed}", config, core, seed, profile)


def ablation(variant: str, seed: int, profile: str) -> records.Case:
    """Return the case of one row of the ablations, on `ABLATION_TASK`."""
    config = configuration(ABLATION_TASK, variant, profile)
    core = VARIANTS[variant].core and seed == profiles.profile(profile).diffusion.ablation_seeds[0]
    return _trained(f"{SERIES}/ablation/{variant}/seed{seed}", config, core, seed, profile)


def own_seed(seed: int, profile: str) -> int:
    """Return a seed of the profile's: the given one, or where it has others the one at that place, 0 the first."""
    every = profiles.profile(profile).diffusion.seeds
    return seed if seed in every or seed >= len(every) else every[seed]


def sampling(name: str, model: str, seed: int, profile: str) -> records.Case:
    """Return the case that draws with a trained model in all numbers of steps, by both samplers (Figure 6).

    It is a core row where all models are, on the tasks of which the figure is drawn.
    """
    sizes, seed = profiles.profile(profile).diffusion, own_seed(seed, profile)
    trained = case(name, model, seed, profile)
    return records.Case(
        name=f"{SERIES}/sampling/{name}/{model}/seed{seed}",
        profile=profile,
        config=sweep.SweepConfig(
            trained=trained.config,
            steps=sizes.swept_steps,
            pairs=sizes.swept_pairs,
            temperatures=sizes.swept_temperatures,
        ),
        data=trained.data,
        seed=seed,
        compute=sweep.draw,
        frames=frames.SAMPLED,
        inputs={"model": trained},
        row=_row(sizes.all_core and name in SWEPT_TASKS, profile),
    )


def _row(core: bool, profile: str) -> Literal["core", "extended"]:
    """Return the kind of row; at tiny sizes all are core, so that every table and figure is drawn."""
    return "core" if core or profiles.origin(profile) == "smoke" else "extended"


def _trained(full_name: str, config: RunConfig, core: bool, seed: int, profile: str) -> records.Case:
    return records.Case(
        name=full_name,
        profile=profile,
        config=config,
        data=tasks.described(config)["hashes"],
        seed=seed,
        compute=train,
        frames=frames.TRAINED,
        row=_row(core, profile),
    )


def candidates(record: records.Record, split: str = "test") -> list[list[str]]:
    """Return the sentences that a record holds for every item of a split, "test" or "whole"."""
    frame = record.frames["outputs"]
    frame = frame[frame["split"] == split].sort_values(["item", "candidate"])
    return [list(texts) for _, texts in frame.groupby("item")["text"]]


@dataclass(frozen=True)
class Writer:
    """A trained diffusion model that rewrites one sentence at a time, from the weights published with its record."""

    model: DiffusionModel
    run: Experiment

    @classmethod
    def of(cls, record: records.Record) -> "Writer":
        """Build the model of a record of Table 1; raises `KeyError` where no weights are published with it."""
        config = RunConfig.model_validate(record.config)
        run = Experiment.of(config, profiles.profile(record.profile).device)
        return cls(run.load(record.weights("model")), run)

    def steps(self, source: str, seed: int) -> dict[int, str]:
        """Return {sampling step: text of the estimate} for a source of words separated by blanks.

        Raises `UserError` for an empty sentence and for one longer than the window takes.
        """
        vocabulary, window = self.run.data.vocabulary, self.run.config.window
        words = vocabulary.encode(source)
        if not words or len(words) >= window.most:
            raise UserError(f"the sentence has {len(words)} words: give 1 to {window.most - 1}")
        drawn = tracing.estimates(self.model, self.model.config.sampling, vocabulary, [source], window, seed)[0]
        return {step + 1: vocabulary.decode(words) for step, words in enumerate(drawn.tolist())}
