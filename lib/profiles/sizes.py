"""What a profile decides about each series, as typed, frozen records; the numbers stand in `lib.profiles`."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from lib.settings import Settings


class TaskSizes(Settings):
    """Sizes of one task of the InfoDiffusion series; all its models get the same budget."""

    data: str  # "embedded", "replies" (often given ones), or the name of a folder of JSON lines under BENCHMARK_DIR
    training_steps: int  # optimiser steps of the diffusion models
    baseline_steps: int  # and of the others
    test_pairs: int  # of the 500 fixed ones where the data is embedded
    window: tuple[float, int, int]  # places of the target: ratio * source words + extra, at most
    whole_verses: int = 0  # test sentences of up to 40 words, a second row


class DiffusionSizes(Settings):
    """Sizes of the InfoDiffusion series; a training budget is a number of optimiser steps."""

    tasks: dict[str, TaskSizes]
    seeds: tuple[int, ...]
    ablation_steps: int  # optimiser steps of every row of the ablations
    ablation_pairs: int  # their test sentences
    ablation_candidates: int
    ablation_seeds: tuple[int, ...]  # of the two main ablations; the other rows have the first
    vocabulary: int  # words; 30,522 is the uncased BERT vocabulary
    train_pairs: int | None  # None: all
    diffusion_steps: int  # T
    tokens: int  # source and target words in a batch
    embedding: int
    width: int
    layers: int
    heads: int
    dropout: float
    large: tuple[int, int, int]  # width, layers, heads of GPT-2 large
    published_shapes: bool = False  # of the models that are no diffusion: their own defaults instead of ours
    embedding_scale: float  # norm of a word vector over sqrt(embedding)
    sharpness: float  # scale of the scores of the output layer
    sampling_steps: int
    sampler: Literal["ddim", "ancestral"]
    candidates: int  # for MBR; diversity uses the first 3
    traced_steps: int  # sampling steps of the settling statistics
    traced_pairs: int
    swept_steps: tuple[int, ...]  # sampling steps of Figure 6
    swept_pairs: int
    curve_points: int  # times that training stops to score validation sentences
    optimiser: Literal["muon", "adamw"]
    rate: float


class EditingSizes(Settings):
    """Sizes of the LEMoE series, and where in the backbone its methods act."""

    dtype: Literal["float32", "bfloat16"]
    layer: NonNegativeInt  # whose feed-forward part adaptors, codebooks and side memories stand beside
    upper_layer: NonNegativeInt  # of the methods that act near the output (FT-L, GRACE, DEFER, WISE)
    located: tuple[NonNegativeInt, ...]  # layers that MEMIT and AlphaEdit spread over; ROME takes the last
    runs: dict[PositiveInt, PositiveInt]  # T: how many rolled-back runs it is the mean of
    most: PositiveInt  # the largest T, one run
    slow: PositiveInt  # largest T of methods that cost seconds an edit
    ablation: PositiveInt  # T of the ablations, and of the core rows
    batches: PositiveInt  # that the edits of a run arrive in; one expert each
    passages: PositiveInt  # long factual passages edited, in the SelfCheckGPT column
    seeds: tuple[NonNegativeInt, ...]  # of routing and order
    steps: PositiveInt  # of an expert on its batch
    rate: PositiveFloat
    longest: PositiveInt  # most steps of methods whose papers give a number
    expert_width: PositiveInt
    moment_tokens: PositiveInt
    mend_steps: PositiveInt
    unrelated: PositiveInt  # texts that ways out, margins and gates are set from
    tuning: PositiveInt  # edits of the tuning split that settings are chosen on


class BeaconSizes(Settings):
    """Sizes of the Beacons series; adapters stand in the upper layers, below which everything is computed once."""

    dtype: Literal["float32", "bfloat16"]  # of the backbone; adapters are float32 in either
    full_dtype: Literal["float32", "bfloat16"]  # where its own weights are trained
    first_layer: int  # the lowest layer that is adapted
    facts: int  # learnt alone, each with an adapter of its own
    steps: int  # updates of one fact alone
    read_steps: tuple[int, ...]  # after how many of them its distance is read
    counts: tuple[int, ...]  # N facts learnt together
    batch: int  # facts in a step, among many
    pool: int  # facts of the filters and the re-weighted losses
    kept: float  # share of them that a filter keeps
    arm_steps: int  # optimiser steps of each arm
    seeds: tuple[int, ...]
    rates: tuple[float, ...]  # learning rates tried for each method on the tuning pool
    tuning: int  # facts of that pool
    samples: int  # answers sampled per prompt, to tell what the model knows
    answer_tokens: int  # most tokens of an answer
    rank: int  # of LoRA and its kin
    variance_weight: float  # lambda of the filters
    alpha: float  # of the re-weighted loss
    least_weight: float
    text_tokens: int  # of general text, for perplexity


class DistillationSizes(Settings):
    """Sizes of the distillation series; every arm gets the same number of optimiser steps."""

    suite: Literal["embedded", "minillm"]  # our five instruction sets, or the MiniLLM suite from BENCHMARK_DIR
    examples: int  # training rows of a set
    validation: int
    test: int
    longest: tuple[int, int]  # tokens of a prompt and of a response
    teacher_layer: int  # the lowest layer that is adapted
    teacher_steps: int
    teacher_batch: int
    teacher_rate: float
    student: tuple[int, int, int]  # width, layers, heads
    ratios: tuple[tuple[int, int], ...]  # layers and widths of the students of Table K3
    steps: int
    longer: int  # times the steps, in the rows that ask whether the others are too short
    batch: int
    rate: float
    seeds: tuple[int, ...]
    decoding_seeds: tuple[int, ...]
    proportions: tuple[float, float, float]  # of cross-entropy, output and middle loss
    on_policy: float  # share of batches that GKD draws from the student
    top_k: int  # logits kept where the whole vocabulary does not fit the cache
    cache_gib: float
