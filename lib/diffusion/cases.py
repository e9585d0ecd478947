"""The cases of the InfoDiffusion series: one per task, model and seed."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from lib import profiles, records, speed
from lib.diffusion import batches, decoding, training
from lib.diffusion.denoiser import Denoiser, DenoiserConfig, forward_flops
from lib.diffusion.process import ProcessConfig
from lib.errors import UserError
from lib.text import metrics, pairs
from lib.text.vocabulary import Vocabulary

SERIES = "1_infodiffusion"
# Where the numbers come from: a change in what these reach makes a record stale.
CODE = ("lib.diffusion.training", "lib.diffusion.decoding")
WATCHED = 100  # validation sentences behind each point of the curve
TRACED = 20  # test sentences whose decoding is kept step by step
PREFIX_STEPS = 5
PUBLISHED, FIRST_SEED = "infodiffusion", 0  # the one model whose weights travel with its record


@dataclass(frozen=True)
class Model:
    """One row of the comparison: its name for readers, and its process at T diffusion steps."""

    title: str
    process: Callable[[int], ProcessConfig]


# Our choice for both models: the rounding loss reads the network's estimate, and weighs as much as the squared error.
_ours = partial(ProcessConfig, rounding_of="estimate")
MODELS: dict[str, Model] = {
    "infodiffusion": Model("InfoDiffusion", lambda steps: _ours(steps=steps, timesteps="skewed")),
    "diffuseq": Model("DiffuSeq", lambda steps: _ours(steps=steps, schedule="sqrt", self_conditioning=0.0)),
    "diffuseq_skewed": Model(
        "DiffuSeq, skewed times",
        lambda steps: _ours(steps=steps, schedule="sqrt", self_conditioning=0.0, timesteps="skewed"),
    ),
}


class RunConfig(BaseModel):
    """All that decides the outcome of one case, besides data, code and seed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    model: str
    vocabulary: int
    test_pairs: int
    whole_verses: int
    watch_at: tuple[int, ...]
    window: batches.Window
    shape: DenoiserConfig
    process: ProcessConfig
    training: training.TrainingConfig
    decoding: decoding.DecodingConfig


@dataclass(frozen=True)
class Task:
    """The data of one task as the models see it."""

    pairs: pairs.PairSet
    whole: pairs.PairSet
    vocabulary: Vocabulary
    information: Tensor


@lru_cache(maxsize=4)
def task(name: str, profile: str) -> Task:
    """Load the pairs of a task at a profile's size, and the vocabulary of the whole training split."""
    sizes = profiles.profile(profile).diffusion
    loaded, whole = pairs.load(name), pairs.load(name, whole=True)
    texts = loaded.sources("train") + loaded.targets("train")
    vocabulary = Vocabulary.build(texts, sizes.vocabulary)
    vocabulary.check_coverage(loaded.sources("validation") + loaded.targets("validation"), f"task {name}")
    if sizes.train_pairs is not None:
        loaded = pairs.subset(loaded, sizes.train_pairs)
    return Task(loaded, whole, vocabulary, vocabulary.information())


def configuration(name: str, model: str, profile: str) -> RunConfig:
    """Return the configuration of a model on a task at a profile's size."""
    sizes = profiles.profile(profile).diffusion
    every = max(1, sizes.training_steps // sizes.curve_points)
    return RunConfig(
        task=name,
        model=model,
        vocabulary=sizes.vocabulary,
        test_pairs=sizes.test_pairs,
        whole_verses=sizes.whole_verses,
        watch_at=tuple(range(every, sizes.training_steps + 1, every)),
        window=batches.Window(),
        shape=DenoiserConfig(
            vocabulary=len(task(name, profile).vocabulary),
            **{key: getattr(sizes, key) for key in ("embedding", "width", "layers", "heads", "dropout")},
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
    config, data = configuration(name, model, profile), task(name, profile)
    found = records.Case(
        name=f"{SERIES}/{name}/{model}/seed{seed}",
        profile=profile,
        config=config,
        data={"pairs": pairs.content_hash(data.pairs), "whole": pairs.content_hash(data.whole)},
        code=CODE,
        seed=seed,
        compute=lambda: compute(found, config, data),
        prefix=lambda: prefix(config, data, seed, profile),
    )
    return found


def compute(case: records.Case, config: RunConfig, data: Task) -> records.Outcome:
    """Train, then decode the test sentences; the sentences are the raw outputs that every score comes from."""
    encoded = encode(config, data)
    held_out = data.pairs["validation"].select(range(min(WATCHED, len(data.pairs["validation"]))))
    one = config.decoding.model_copy(update={"candidates": 1})

    def watch(model: Denoiser) -> dict[str, float]:
        found = draw(model, config, one, data, list(held_out["src"]), seed=0)
        return {"validation_bleu": float(metrics.bleu([c[0] for c in found], list(held_out["trg"])).mean())}

    trained = train(config, data, encoded, case.seed, case.profile, case, watch)
    shown = data.pairs.sources("test")[: config.test_pairs]
    sentences = {"test": shown, "whole": data.whole.sources("test")[: config.whole_verses]}
    drawn = {
        split: draw(trained.model, config, config.decoding, data, sources, case.seed)
        for split, sources in sentences.items()
    }
    weights = {name: value.detach().cpu() for name, value in trained.model.named_parameters()}
    rate, device = trained.words / trained.seconds, profiles.profile(case.profile).device
    flops = forward_flops(config.shape) * (3 + config.process.self_conditioning)
    return records.Outcome(
        values={
            "curve": trained.curve,
            "parameters": sum(value.numel() for value in weights.values()),
            "pairs": encoded.pairs,
            "left_out": encoded.left_out,
        },
        frames={"outputs": outputs(drawn), "trace": trace(trained.model, config, data, shown[:TRACED], case.seed)},
        weights={"model": weights},
        published={"model": weights} if config.model == PUBLISHED and case.seed == FIRST_SEED else {},
        cost={
            "training_seconds": trained.seconds,
            "words_per_second": rate,
            "share_of_matrix_rate": rate * flops / speed.matrix_rate(torch.bfloat16, device),
        },
    )


def encode(config: RunConfig, data: Task) -> batches.Encoded:
    """Encode the training split."""
    return batches.encode_targets(
        data.vocabulary, data.pairs.sources("train"), data.pairs.targets("train"), config.window
    )


def train(
    config: RunConfig,
    data: Task,
    encoded: batches.Encoded,
    seed: int,
    profile: str,
    case: records.Case | None = None,
    watch: Callable[[Denoiser], dict[str, float]] | None = None,
) -> training.Trained:
    """Train one model; with a case, from its last checkpoint."""
    return training.train(
        config.shape,
        config.process,
        config.training,
        encoded,
        data.information,
        seed,
        device=profiles.profile(profile).device,
        workspace=None if case is None else records.workspace(case),
        watch=watch,
        watch_at=config.watch_at,
    )


def prefix(config: RunConfig, data: Task, seed: int, profile: str) -> str:
    """Return a digest of the weights after five steps and of four sentences drawn with them."""
    begun = config.model_copy(update={"training": config.training.model_copy(update={"steps": PREFIX_STEPS})})
    trained = train(begun, data, encode(config, data), seed, profile)
    digest = hashlib.sha256()
    for _, value in sorted(trained.model.named_parameters()):
        digest.update(value.detach().cpu().numpy().tobytes())
    drawn = draw(trained.model, config, config.decoding, data, data.pairs.sources("test")[:4], seed)
    digest.update(repr(drawn).encode())
    return digest.hexdigest()


def draw(
    model: Denoiser, config: RunConfig, how: decoding.DecodingConfig, data: Task, sources: list[str], seed: int
) -> list[list[str]]:
    """Return the candidates for each source."""
    return decoding.decode(model, config.process, how, data.vocabulary, sources, data.information, config.window, seed)


def outputs(drawn: dict[str, list[list[str]]]) -> pd.DataFrame:
    """Return the raw outputs as rows: split, item, candidate, text."""
    return pd.DataFrame(
        [
            {"split": split, "item": item, "candidate": candidate, "text": text}
            for split, sentences in drawn.items()
            for item, candidates in enumerate(sentences)
            for candidate, text in enumerate(candidates)
        ]
    )


def trace(model: Denoiser, config: RunConfig, data: Task, sources: list[str], seed: int) -> pd.DataFrame:
    """Return the words of the estimate after every sampling step: item, step (1 is the first), place, word."""
    rows = []
    for item, source in enumerate(sources):
        ids = torch.tensor([data.vocabulary.encode(source)])
        generator = torch.Generator().manual_seed(seed * 1_000_003 + item)
        places = config.window.places(ids.shape[1])
        steps = decoding.reverse(
            model, config.process, config.decoding, ids, places, data.information, generator, trace=True
        )
        rows += [
            {"item": item, "step": step + 1, "place": place, "word": data.vocabulary.words[word]}
            for step, sentence in enumerate(steps[:, 0].tolist())
            for place, word in enumerate(sentence)
        ]
    return pd.DataFrame(rows)


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
    data: Task

    @classmethod
    def of(cls, record: records.Record) -> "Writer":
        """Build the model of a record; raises `KeyError` where no weights are published with it."""
        config = RunConfig.model_validate(record.config)
        model = Denoiser(config.shape)
        model.load_state_dict({name: value.float() for name, value in record.weights("model").items()})
        return cls(model.eval(), config, task(config.task, record.profile))

    def steps(self, source: str, seed: int) -> dict[int, str]:
        """Return {sampling step: text of the estimate} for a source of words separated by blanks.

        Raises `UserError` for an empty sentence and for one longer than the window takes.
        """
        ids = self.data.vocabulary.encode(source)
        places = self.config.window.places(len(ids))
        if not ids or places < len(ids):
            raise UserError(f"the sentence has {len(ids)} words: give 1 to {self.config.window.most}")
        drawn = decoding.reverse(
            self.model,
            self.config.process,
            self.config.decoding,
            torch.tensor([ids]),
            places,
            self.data.information,
            torch.Generator().manual_seed(seed),
            trace=True,
        )
        return {step + 1: self.data.vocabulary.decode(words) for step, words in enumerate(drawn[:, 0].tolist())}
