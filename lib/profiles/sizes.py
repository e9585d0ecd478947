"""What a profile decides about each series, as typed, frozen records; the numbers stand in `lib.profiles`."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lib.settings import Settings, Share

Rate = Annotated[float, Field(gt=0, le=1)]
Seeds = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]
Window = tuple[NonNegativeFloat, NonNegativeInt, PositiveInt]
Runs = Annotated[dict[PositiveInt, PositiveInt], Field(min_length=1)]
Counts = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
EditSet = Literal["facts", "zsre", "counterfact"]  # our own, and the user's files
Places = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]  # counted from 0


class TaskSizes(Settings):
    """Sizes of one task of the InfoDiffusion series; all its models get the same budget."""

    data: str  # "embedded", "replies" (often given ones), or the name of a folder of JSON lines under BENCHMARK_DIR
    training_steps: PositiveInt  # optimiser steps of the diffusion models
    baseline_steps: PositiveInt  # and of the others
    test_pairs: PositiveInt  # of the 500 fixed ones where the data is embedded
    window: Window  # places of the target: ratio * source words + extra, at most
    whole_verses: NonNegativeInt = 0  # test sentences of up to 40 words, a second row


class DiffusionSizes(Settings):
    """Sizes of the InfoDiffusion series; a training budget is a number of optimiser steps."""

    tasks: dict[str, TaskSizes]
    seeds: Seeds  # of the pair, and of every row on one task; the other rows have the first
    ablation_steps: PositiveInt  # optimiser steps of every row of the ablations
    ablation_pairs: PositiveInt  # their test sentences
    ablation_candidates: PositiveInt
    ablation_seeds: Seeds  # of the main ablations and of shuffled information; the other rows have the first
    vocabulary: PositiveInt  # words; 30,522 is the uncased BERT vocabulary
    train_pairs: PositiveInt | None  # None: all
    diffusion_steps: PositiveInt  # T
    tokens: PositiveInt  # source and target words in a batch
    micro_tokens: PositiveInt | None = None  # of them in one pass, which changes no result; None: all
    checkpointing: bool = False  # compute the inner states of layers twice instead of keeping them; the same results
    embedding: PositiveInt
    width: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    dropout: Annotated[float, Field(ge=0, lt=1)]
    large: tuple[PositiveInt, PositiveInt, PositiveInt]  # width, layers, heads of GPT-2 large
    published_shapes: bool = False  # of the models that are no diffusion: their own defaults instead of ours
    released_process: bool = False  # of the diffusion models: network, losses, times, schedule and sampler as released
    embedding_scale: PositiveFloat  # norm of a word vector over sqrt(embedding)
    sharpness: PositiveFloat  # scale of the scores of the output layer
    sampling_steps: PositiveInt
    sampler: Literal["ddim", "ancestral"]
    clamp: Literal["none", "nearest"]  # the nearest word vector in the place of every estimate
    candidates: PositiveInt  # for MBR; diversity uses the first 3
    traced_steps: PositiveInt  # sampling steps of the settling statistics
    traced_pairs: PositiveInt
    swept_steps: Counts  # sampling steps of Figure 6
    swept_pairs: PositiveInt
    swept_temperatures: tuple[NonNegativeFloat, ...] = ()  # factors on the sampling noise, quality over diversity
    curve_points: PositiveInt  # times that training stops to score validation sentences
    optimiser: Literal["muon", "adamw"]
    rate: Rate
    all_core: bool = False  # every model is a core row of its task


class EditingSizes(Settings):
    """Sizes of the LEMoE series, and where in the backbone its methods act."""

    dtype: Literal["float32", "bfloat16"]
    layer: NonNegativeInt  # whose feed-forward part adaptors, codebooks and side memories stand beside
    upper_layer: NonNegativeInt  # of the methods that act near the output (FT-L, GRACE, DEFER, WISE)
    located: Places  # layers that MEMIT and AlphaEdit spread over; ROME takes the last
    runs: Runs  # T: how many rolled-back runs it is the mean of
    most: PositiveInt  # the largest T, one run
    slow: PositiveInt  # largest T of methods that cost seconds an edit
    ablation: PositiveInt  # T of the ablations, and of the core rows
    batches: PositiveInt  # that the edits of a run arrive in; one expert each
    passages: PositiveInt  # long factual passages edited, in the SelfCheckGPT column
    seeds: Seeds  # of routing and order
    steps: PositiveInt  # of an expert on its batch
    rate: Rate
    longest: PositiveInt  # most steps of methods whose papers give a number
    expert_width: PositiveInt
    moment_tokens: PositiveInt
    mend_steps: PositiveInt
    unrelated: PositiveInt  # texts that ways out, margins and gates are set from
    tuning: PositiveInt  # edits of the tuning split that settings are chosen on
    cap: PositiveInt  # most steps on a batch, of the rows that stop when it is learnt
    mend_cap: PositiveInt  # most steps of the training of MEND's network that validation edits stop
    mend_validation: PositiveInt  # of the tuning split's edits
    drawn: Runs  # T: how many rolled-back runs of a draw it is the mean of
    spacing: PositiveInt  # edits that a draw may take, over all runs
    draws: Seeds  # of edits, for the rows that a claim names; other rows, and the largest T, have the first
    close_draws: Seeds  # of the same rows at the T where claims are judged
    order_seeds: Seeds  # orders of the edits of one draw, and initial weights beside them
    sets: Annotated[tuple[EditSet, ...], Field(min_length=1)] = ("facts",)  # of the tables; the first of all figures
    long_set: Literal["passages", "selfcheckgpt"] = "passages"  # of the column with perplexity
    backbones: tuple[str, ...] = ()  # that the tables are made for, too
    rows: tuple[str, ...] = ()  # of the tables, besides the methods
    released: bool = False  # rows of other authors as released for models of 7 billion parameters, not as ours
    released_layers: dict[str, Places] = Field(default_factory=dict)  # of those whose layers are none of the above
    all_core: bool = False  # every row of the tables is a core one


class BeaconSizes(Settings):
    """Sizes of the Beacons series; adapters stand in the upper layers, below which everything is computed once."""

    dtype: Literal["float32", "bfloat16"]  # of the backbone; adapters are float32 in either
    full_dtype: Literal["float32", "bfloat16"]  # where its own weights are trained
    first_layer: NonNegativeInt  # the lowest layer that is adapted
    facts: PositiveInt  # learnt alone, each with an adapter of its own
    steps: PositiveInt  # updates of one fact alone
    read_steps: Places  # after how many of them its distance is read
    counts: Counts  # N facts learnt together
    batch: PositiveInt  # facts in a step, among many
    pool: PositiveInt  # facts of the filters and the re-weighted losses
    kept: Annotated[float, Field(gt=0, le=1)]  # share of them that a filter keeps
    arm_steps: PositiveInt  # optimiser steps of each arm
    seeds: Seeds
    rates: Annotated[tuple[Rate, ...], Field(min_length=1)]  # learning rates tried on the tuning pool
    tuning: PositiveInt  # facts of that pool
    samples: PositiveInt  # answers sampled per prompt, to tell what the model knows
    answer_tokens: PositiveInt  # most tokens of an answer
    rank: PositiveInt  # of LoRA and its kin
    variance_weight: NonNegativeFloat  # lambda of the filters
    alpha: NonNegativeFloat  # of the re-weighted loss
    least_weight: Share
    text_tokens: PositiveInt  # of general text, for perplexity
    draws: Seeds  # of the rows that claims rest on; each draws facts of its own
    drawn: PositiveInt  # facts of a draw that are learnt alone


class LanguageSizes(Settings):
    """Sizes of the distillation series on the sets that need language; what is not named here is as in the others."""

    own: PositiveInt  # training rows of a set that come with their own answers, all of which the teacher learns
    further: PositiveInt  # prompts of a set that the teacher answers
    student_own: PositiveInt  # of either kind so many rows of a set, drawn anew by each training seed
    student_further: PositiveInt
    validation: PositiveInt
    test: PositiveInt
    teacher_epochs: tuple[PositiveInt, ...]  # after which its validation loss is looked at; the last ends the training
    steps: PositiveInt
    seeds: Seeds  # of the rows that the main claims compare, and of their controls
    few_seeds: Seeds  # of all other rows
    raw_seeds: NonNegativeInt  # the first so many seeds keep all texts, drawn ones too
    texts: PositiveInt  # kept of later seeds, beside their scores


class DistillationSizes(Settings):
    """Sizes of the distillation series; every arm gets the same number of optimiser steps."""

    suite: Literal["embedded", "minillm"]  # our five instruction sets, or the MiniLLM suite from BENCHMARK_DIR
    examples: PositiveInt  # training rows of a set
    validation: PositiveInt
    test: PositiveInt
    longest: tuple[PositiveInt, PositiveInt]  # tokens of a prompt and of a response
    teacher_layer: NonNegativeInt  # the lowest layer that is adapted
    teacher_steps: PositiveInt
    teacher_batch: PositiveInt
    teacher_rate: Rate
    teacher_parts: PositiveInt = 2  # of a step: neighbours are of similar length, so less is padded
    teacher_frozen: Literal["float32", "bfloat16"] = "float32"  # of its matrices that are not adapted; losses are equal
    checkpointing: bool = False  # the teacher's layers are computed a second time instead of kept
    warm_up: Share = 0.05  # of the steps of teacher and students, before the cosine to zero
    student: tuple[PositiveInt, PositiveInt, PositiveInt]  # width, layers, heads
    style: Literal["gpt2", "gpt2_checkpoint"] = "gpt2"  # of the main student; the latter begins from GPT-2's weights
    ratios: Annotated[
        tuple[tuple[PositiveInt, PositiveInt], ...], Field(min_length=1)
    ]  # layers and widths of the students of 4.4
    steps: PositiveInt
    longer: PositiveInt  # times the steps, in the rows that ask whether the others are too short
    batch: PositiveInt
    rate: Rate
    optimiser: Literal["muon", "adamw"] = "muon"
    seeds: Seeds
    decoding_seeds: Seeds
    proportions: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat]  # of cross-entropy, output and middle loss
    on_policy: Share  # share of batches that GKD draws from the student
    top_k: PositiveInt  # logits kept where the whole vocabulary does not fit the cache
    cache_gib: PositiveFloat
    language: LanguageSizes | None = None  # none: the series has no sets that need language at this size
