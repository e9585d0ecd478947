"""The cost of each kind of case, from its configuration.

Where no file is read, lengths are those named below, and a vocabulary is the whole one.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from lib.beacons.batched_lora import GROUP
from lib.diffusion.rounding import AT_ONCE_ELSEWHERE, KEPT
from lib.errors import UserError
from lib.running import shapes
from lib.running.costs import ADAM, GIB, MUON, Cost, Memory, adam
from lib.running.shapes import Shape

if TYPE_CHECKING:
    from lib.records import Case

EDIT_TOKENS = 32  # of a prompt with its target, about: ZsRE's have 25, CounterFact's 15
PASSAGE_TOKENS = 256  # of WISE's hallucination edits
PROMPTS = 4  # of an edit that are scored: rewrite, rephrase, locality, and locality before
CHUNK = 64  # sequences of a forward pass over edits
ALONE = 8  # those of methods that write one edit after another: it and some prefixes, or one for each prompt of it
FACT_TOKENS = 24


def of(case: "Case") -> Cost:
    """Return the cost of a case; `UserError` for a backbone whose shape is not known."""
    return SERIES[case.name.split("/")[0]](case)


# --- 1: sequence-to-sequence models ---


def infodiffusion(case: "Case") -> Cost:
    """Return the cost of a training with its decoding, or of a sweep over sampling steps."""
    config: Any = case.config
    if hasattr(config, "trained"):
        words = 2 * config.trained.window.most * config.pairs
        passes = 2 * sum(config.steps) * words  # by both samplers
        one = network(config.trained.model, config.trained.method)
        return Cost(Memory(weights=4 * one.parameters, activations=GIB), passes * one.forward)
    one, training = network(config.model, config.method), config.training
    words = min(training.tokens, training.micro_tokens or training.tokens)
    matrices = one.matrices if training.optimiser == "muon" else 0
    kept = 4 * one.parameters
    # A diffusion's rounding loss holds a few of its scores at a time; the others have a table of those of targets.
    scores = 5.0 * (KEPT + AT_ONCE_ELSEWHERE) if hasattr(config.method, "process") else words / 2 * one.scores
    memory = Memory(
        weights=2 * kept,  # with their average
        gradients=kept,
        optimiser=4 * (ADAM * (one.parameters - matrices) + MUON * matrices),
        activations=words * one.layers * one.block + scores,
        checkpointed=words * (one.layers * 2 * one.width + one.block) + scores,
    )
    trained = training.steps * training.tokens * one.step
    texts = config.test_pairs + config.whole_verses
    places = 2 * config.window.most  # source and target
    written = texts * config.decoding.candidates + 100 * len(config.watch_at)  # sentences
    sampled = one.sampling * written + config.traced_steps * config.traced_pairs
    moved = 0 if one.sampling > 1 else written / CHUNK * config.window.most * kept
    return Cost(memory, trained + sampled * places * one.forward, moved)


@dataclass(frozen=True)
class Network:
    """A model of the first series: parameters, those in matrices of blocks, operations a word, bytes a block keeps."""

    parameters: int
    matrices: int
    vocabulary: int
    width: int
    layers: int
    block: float
    forward: float
    step: float
    sampling: int = 1  # passes to write a sentence

    @property
    def scores(self) -> float:
        """Return the bytes of the scores of a word."""
        return shapes.scores(self.vocabulary)


def network(model: str, method: Any) -> Network:
    """Return a row's network, built without weights, but for a pretrained one, whose shape is known."""
    return _network(model, method.model_dump_json())


@lru_cache(maxsize=256)
def _network(model: str, method: str) -> Network:
    from lib.diffusion import bert
    from lib.series.infodiffusion.rows import ROWS

    row = ROWS[model]
    config: Any = row.read(json.loads(method))
    if hasattr(config, "trained_layers"):
        shape = shapes.of_model(config.name, config.layers)
        forward = shape.operations()
        trained = shape.parameters
        return Network(
            trained, 0, shape.vocabulary, shape.width, shape.layers, shape.activations(), forward, 3 * forward
        )
    if getattr(config, "checkpoint", None):
        config = config.model_copy(update={"checkpoint": None})  # its shape is that of the configuration
    with torch.device("meta"):
        built = bert.denoiser(config.shape) if hasattr(config, "shape") else row.build(config, None)  # type: ignore[arg-type]
    shape_of = getattr(config, "shape", config)
    parameters = sum(value.numel() for value in built.parameters())
    matrices = sum(value.numel() for name, value in built.named_parameters() if value.ndim == 2 and "block" in name)
    layers = shape_of.layers * (1 if hasattr(config, "shape") or "gpt2" in model else 2)  # encoder and decoder
    forward = 2.0 * (parameters - shape_of.vocabulary * shape_of.width * (0 if hasattr(config, "shape") else 1))
    step = row.operations(config) or 3 * forward
    return Network(
        parameters,
        matrices,
        shape_of.vocabulary,
        shape_of.width,
        layers,
        shapes.block_of_ours(shape_of.width),
        forward,
        step,
        config.sampling.steps if hasattr(config, "sampling") else 1,
    )


# --- 2 and 3: a backbone that is read, and small parts of it that are trained ---


def read_tokens(shape: Shape, tokens: float, batch: float, longest: int, size: int) -> Memory:
    """Return weights of a backbone that is read, with what a pass over `batch` sequences of `longest` holds."""
    held = batch * longest * (shape.activations(size) + shapes.scores(shape.vocabulary))
    return Memory(weights=size * shape.parameters, activations=held, checkpointed=held)


def beacons(case: "Case") -> Cost:
    """Return the cost of facts learnt by adapters or by all weights, or of asking the base model."""
    config: Any = getattr(case.config, "training", case.config)
    shape, size = shapes.of_model(config.backbone, config.layers), _bytes(config.dtype)
    forward = shape.operations()
    longest = FACT_TOKENS + getattr(config, "answer_tokens", 0)
    if not hasattr(config, "steps"):
        asked = (getattr(config, "count", None) or 1000) * (1 + getattr(config, "samples", 0)) * longest
        asked += getattr(config, "text_tokens", 0)
        memory = read_tokens(shape, 0, CHUNK, longest, size)
        return Cost(memory, asked * forward, asked / CHUNK * size * shape.parameters, host=size * shape.parameters)
    alone = not hasattr(config, "batch")  # an adapter for each fact, so many at once
    several = min(config.count, GROUP) if alone else 1
    together, first = several if alone else config.batch, config.first_layer
    upper = (shape.layers - first) * shape.block
    method = getattr(config, "method", "lora")
    trained = upper if method == "full" else adapter(shape, first, config.rank)
    keep = together * longest * ((shape.layers - first) * shape.activations(size) + shapes.scores(shape.vocabulary))
    base = size * shape.parameters
    if method == "full":  # in its own precision, with the base's weights to restore and the last good ones
        memory = Memory(base + 2 * size * upper, size * upper, ADAM * size * upper, keep)
    else:
        memory = adam(several * trained, base)
        memory = replace(memory, activations=keep)
    memory = replace(
        memory, checkpointed=together * longest * (shape.layers * size * shape.width) + keep / shape.layers
    )
    runs = getattr(config, "runs", 1)
    learnt = config.count if alone else together
    steps = runs * config.steps * learnt * longest * shape.operations(first) * (3 if method == "full" else 2)
    asked = runs * getattr(config, "read", config.count) * (1 + config.paraphrases) * longest
    return Cost(memory, steps + asked * forward, asked / CHUNK * base, host=size * shape.parameters)


def adapter(shape: Shape, first: int, rank: int) -> int:
    """Return the parameters of LoRA on the three projections of the feed-forward parts from a layer on."""
    return (shape.layers - first) * 3 * rank * (shape.width + shape.hidden)


def lemoe(case: "Case") -> Cost:
    """Return the cost of editing in batches and scoring all edits so far."""
    config: Any = getattr(case.config, "run", case.config)
    shape, size = shapes.of_model(config.backbone, config.layers), _bytes(config.dtype)
    base, forward = size * shape.parameters, shape.operations()
    longest = PASSAGE_TOKENS if getattr(config, "perplexity", False) else EDIT_TOKENS
    count = config.count
    if not hasattr(config, "batches"):
        memory = read_tokens(shape, 0, CHUNK, longest, size)
        return Cost(memory, count * longest * forward, host=base)
    settings, runs = config.settings, config.runs
    batches = min(config.batches, count)
    layer = lowest(settings)
    steps = getattr(settings, "steps", 0)
    chunk = min(getattr(settings, "chunk", ALONE), count)
    experts = hasattr(settings, "expert_width")
    width = (getattr(settings, "expert_width", None) or shape.hidden) if experts else 0
    expert = 3 * shape.width * width
    trained = expert if experts else shape.width * shape.hidden
    if hasattr(settings, "accumulated"):  # MEND's networks, one for the map down and one for those up
        trained = 2 * 4 * settings.rank * (shape.width + shape.hidden)
    upper = max(1, shape.layers - layer)
    deep = upper if steps else 1  # what is only read keeps one block
    keep = chunk * longest * (deep * shape.activations(size) + shapes.scores(shape.vocabulary))
    moments = 4 * len(config.bench.moment_layers) * shape.hidden**2
    memory = replace(
        adam(trained, base + (4 * expert * (batches - 1) if experts else 0)),
        activations=keep,
        checkpointed=chunk * longest * upper * size * shape.width + keep / upper,
        cache=2 * moments,  # and one that is inverted or decomposed
    )
    edited = learning(settings, runs * count, shape) * longest
    scored = count * (batches + 1) / 2 if config.every_batch else count
    asked = runs * (scored + count) * PROMPTS * longest
    moved = runs * count * 2 * longest / CHUNK * base if config.generate else 0
    read = config.bench.moment_tokens + config.bench.unrelated * EDIT_TOKENS
    return Cost(memory, edited + (asked + read) * forward, moved, host=base)


def lowest(settings: Any) -> int:
    """Return the lowest layer that a method changes; 0 where it names none."""
    layers: tuple[int, ...] = getattr(settings, "layers", None) or (getattr(settings, "layer", 0),)
    return layers[0]


def learning(settings: Any, edits: int, shape: Shape) -> float:
    """Return the operations for each token of a prompt with its target until edits are learnt.

    A step goes through the layers from the edited one on, there and back, with all texts that it reads of an edit. MEND
    takes a step an edit, and learns how before: an update reads an edit and what it is to change and to leave.
    """
    steps = getattr(settings, "steps", 0)
    upper = shape.operations(min(lowest(settings), shape.layers - 1))
    if hasattr(settings, "accumulated"):
        updates = steps * settings.accumulated * settings.together
        return float(edits * (shape.operations() + 2 * upper) + updates * (4 * shape.operations() + 4 * upper))
    before = (*getattr(settings, "prefixes", ()), *getattr(settings, "contexts", ()))
    texts = 1 + sum(number for _, number in before)
    return float(edits * steps * texts * upper * 3)


# --- 4: a teacher that is adapted, students of it ---


def distillation(case: "Case") -> Cost:
    """Return the cost of adapting the teacher, of keeping what it says, or of a student."""
    config: Any = case.config
    adapted: Any = case.inputs["teacher"].config if "teacher" in case.inputs else config
    teacher = shapes.of_model(adapted.backbone, adapted.layers)
    longest = sum(adapted.data.longest)
    tests = adapted.data.test
    examples = adapted.data.examples + getattr(adapted.data, "further", 0)  # and prompts that it answers
    loaded = 4 * teacher.parameters  # in float32, before it is cut down and rounded
    if case.name.endswith("teacher/adapted"):
        training = config.training
        rows = training.batch / training.micro_batches
        trained = teacher.trained(config.layer)
        matrices = teacher.parameters - trained - teacher.embeddings  # that are frozen
        size = _bytes(config.frozen)
        cast = 2 * (trained + (matrices if size > 2 else 0))  # autocast's copy of the weights
        scores = shapes.scores(teacher.vocabulary)
        every = rows * longest * ((teacher.layers - config.layer) * teacher.activations() + scores)
        least = rows * longest * (teacher.layers * teacher.states() + teacher.activations() + scores)
        memory = replace(
            adam(trained, 4 * teacher.embeddings + size * matrices + cast),
            activations=least if training.checkpointing else every,
            checkpointed=least,
        )
        tokens = training.steps * training.batch * longest
        work = tokens * (teacher.operations() + 2 * teacher.operations(config.layer))
        return _answering(memory, work, teacher, tests, config, 4 * teacher.parameters, loaded, 2)
    told: Any = getattr(config, "rows", None)
    if told is None and not hasattr(config, "student") and not hasattr(config, "maps"):
        raise UserError(f"{case.name}: no plan for its configuration")
    if isinstance(getattr(config, "student", None), int) or hasattr(config, "maps"):  # what is kept of the teacher
        kept = Memory(
            weights=max(loaded, 2 * teacher.parameters), activations=64 * longest * shapes.scores(teacher.vocabulary)
        )
        return Cost(kept, examples * longest * teacher.operations(), host=4 * teacher.parameters)
    one = config if told is None else next(iter(told.values()))
    student = Shape(
        "gpt2", one.student.layers, one.student.width, one.student.heads, teacher.vocabulary, positions=longest
    )
    training = one.training
    rows = training.batch / training.micro_batches
    states = adam(student.parameters, 2 * teacher.parameters)
    keep = rows * longest * (student.layers * student.activations() + 2 * shapes.scores(student.vocabulary))
    memory = replace(
        states,
        weights=max(states.weights, loaded),
        activations=keep,
        checkpointed=rows * longest * (student.layers * student.states() + 2 * shapes.scores(student.vocabulary)),
    )
    steps = training.steps if told is None else config.steps * len(told)
    live = one.signals == "live" or bool(one.objective.on_policy)
    tokens = steps * training.batch * longest
    work = tokens * (3 * student.operations() + (teacher.operations() if live else 0))
    return _answering(memory, work, student, tests if told is None else 0, one, 4 * teacher.parameters, 0, 4)


def _answering(
    memory: Memory, work: float, shape: Shape, tests: int, config: Any, host: float, loaded: float, size: int
) -> Cost:
    """Add five sets of responses for each decoding seed, written side by side, token after token.

    What that takes beyond the training, whose gradients and moments are gone by then, is the cache: a model that is
    `loaded` anew, and keys and values of `size` bytes a number.
    """
    together = config.decoding.batch
    drawn = 5 * tests * (1 + len(config.decoding_seeds))
    tokens = config.data.longest[1]
    cache = together * sum(config.data.longest) * shape.cached(size)
    held = max(loaded, size * shape.parameters + cache) if loaded else cache
    trained = memory.total if loaded else memory.gradients + memory.optimiser + memory.activations
    moved = drawn / together * tokens * size * shape.parameters
    return Cost(
        replace(memory, cache=max(0.0, held - trained)), work + drawn * tokens * shape.operations(), moved, host
    )


def _bytes(dtype: str) -> int:
    return getattr(torch, dtype).itemsize


SERIES: dict[str, Callable[["Case"], Cost]] = {
    "1_infodiffusion": infodiffusion,
    "2_beacons": beacons,
    "3_lemoe": lemoe,
    "4_hetero_kd": distillation,
}
