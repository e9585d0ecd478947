"""`cpu`: real models and real text on two cores; the sizes that the other profiles change."""

from typing import Any

from lib.profiles.fields import SMOLLM2, Profile
from lib.profiles.sizes import (
    BeaconSizes,
    DiffusionSizes,
    DistillationSizes,
    EditingSizes,
    LanguageSizes,
    TaskSizes,
)


def _embedded(
    steps: int, pairs: int, window: tuple[float, int, int], data: str = "embedded", **other: int
) -> TaskSizes:
    """Return the sizes of a task on embedded text."""
    return TaskSizes(data=data, training_steps=steps, baseline_steps=1000, test_pairs=pairs, window=window, **other)


DIFFUSION = DiffusionSizes(
    tasks={
        "paraphrase": _embedded(2000, 500, (1.0, 3, 64), whole_verses=100),
        "simplification": _embedded(3000, 200, (1.0, 3, 64)),
        "dialogue": _embedded(2000, 200, (1.0, 3, 64), "replies"),
        "question_generation": _embedded(3000, 200, (1.0, 3, 64)),
    },
    seeds=(0, 1, 2),
    ablation_steps=600,
    ablation_pairs=200,
    ablation_candidates=5,
    ablation_seeds=(0, 1, 2, 3, 4),
    vocabulary=8000,
    train_pairs=None,
    diffusion_steps=200,
    tokens=2048,
    embedding=128,
    width=256,
    layers=4,
    heads=4,
    dropout=0.0,
    large=(320, 5, 5),
    embedding_scale=0.3,
    sharpness=1.0,
    sampling_steps=20,
    sampler="ancestral",
    clamp="nearest",
    candidates=10,
    traced_steps=50,
    traced_pairs=200,
    swept_steps=(1, 2, 5, 10, 20, 50, 200),
    swept_pairs=200,
    swept_temperatures=(0.0, 0.25, 0.5, 0.75, 1.0),
    curve_points=8,
    optimiser="muon",
    rate=2e-3,
)


EDITING = EditingSizes(
    dtype="float32",
    layer=18,
    upper_layer=24,
    located=(7, 8, 9),
    runs={1: 5, 10: 2, 100: 1},
    most=200,
    slow=50,
    ablation=50,
    batches=5,
    passages=50,
    seeds=(0, 1, 2),
    steps=30,
    rate=3e-3,
    longest=100,
    expert_width=512,
    moment_tokens=100_000,
    mend_steps=60,
    unrelated=100,
    tuning=50,
    cap=200,
    mend_cap=480,
    mend_validation=40,
    drawn={1: 10, 10: 2, 100: 1, 200: 1},
    spacing=200,
    draws=(0, 1, 2),
    close_draws=(0, 1, 2, 3, 4),
    order_seeds=tuple(range(10)),
)


BEACONS = BeaconSizes(
    dtype="bfloat16",
    full_dtype="float32",
    first_layer=20,
    facts=100,
    steps=10,  # a fact alone is learnt within five
    read_steps=(0, 1, 2, 3, 4, 5, 7, 10),
    counts=(1, 10, 50, 100, 500),
    batch=10,
    pool=100,
    kept=0.5,
    arm_steps=30,  # three epochs: on the tuning pool later ones change nothing any more
    seeds=(0, 1, 2),
    rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    tuning=40,
    samples=4,
    answer_tokens=8,
    rank=8,
    variance_weight=1.0,
    alpha=1.0,
    least_weight=0.1,
    text_tokens=4000,
    draws=tuple(range(10, 30)),  # none of `seeds`, on whose records the margins were chosen
    drawn=200,
)


DISTILLATION = DistillationSizes(
    suite="embedded",
    examples=1500,
    validation=40,
    test=60,
    longest=(48, 24),
    teacher_layer=15,
    teacher_steps=120,
    teacher_batch=16,
    teacher_rate=3e-4,
    student=(192, 4, 4),
    ratios=((2, 192), (4, 128), (8, 192), (4, 320)),
    steps=300,
    longer=3,
    batch=32,
    rate=3e-3,
    seeds=(0, 1, 2),
    decoding_seeds=(10, 20, 30, 40, 50),
    proportions=(1.0, 1.0, 1.0),
    on_policy=0.25,
    top_k=64,
    cache_gib=2.0,
    language=LanguageSizes(
        own=200,
        further=400,
        student_own=150,
        student_further=300,
        validation=100,
        test=150,
        teacher_epochs=(1, 2, 3, 4),
        steps=150,
        seeds=tuple(range(10)),
        few_seeds=(0, 1, 2),
        raw_seeds=3,
        texts=50,
    ),
)


PROFILE = Profile(
    name="cpu",
    about="real models and real text on two cores; the default, and every number that names no other profile",
    origin="cpu",
    offline=True,
    device="cpu",
    backbone=SMOLLM2,
    backbone_layers=None,
    diffusion=DIFFUSION,
    editing=EDITING,
    beacons=BEACONS,
    distillation=DISTILLATION,
)


def scaled(sizes: DiffusionSizes, steps: int, pairs: int, **other: Any) -> DiffusionSizes:
    """Return `sizes` with other training steps and test pairs for every task, and other fields."""
    tasks = {}
    for name, task in sizes.tasks.items():
        changes = {"training_steps": steps, "baseline_steps": steps, "test_pairs": pairs}
        tasks[name] = task.model_copy(update=changes | {"whole_verses": min(task.whole_verses, pairs)})
    return sizes.model_copy(update={"tasks": tasks, **other})
