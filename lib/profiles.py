"""How big everything is: four profiles as typed, frozen data, and one table that shows them."""

from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from lib.errors import UserError
from lib.sizes import BeaconSizes, DiffusionSizes, DistillationSizes, EditingSizes, TaskSizes

Name = Literal["smoke", "cpu", "gpu", "paper"]


class Profile(BaseModel):
    """One size of everything: what runs, on what, and how long it may take."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    about: str
    offline: bool  # no hub is contacted
    device: Literal["cpu", "cuda"]
    backbone: str
    backbone_layers: int | None  # None: all
    diffusion: DiffusionSizes
    editing: EditingSizes
    beacons: BeaconSizes
    distillation: DistillationSizes


SMOLLM2 = "SmolLM2-135M-Instruct (Q4_1, dequantised)"


def _embedded(steps: int, pairs: int, window: tuple[float, int, int], **other: int) -> TaskSizes:
    """Return the sizes of a task on embedded text."""
    return TaskSizes(
        data="embedded", training_steps=steps, baseline_steps=200, test_pairs=pairs, window=window, **other
    )


_CPU = DiffusionSizes(
    tasks={
        "paraphrase": _embedded(600, 500, (1.0, 3, 64), whole_verses=100),
        "simplification": _embedded(200, 200, (1.0, 3, 64)),
        "dialogue": _embedded(200, 200, (1.0, 3, 64)),
        "question_generation": _embedded(200, 200, (1.0, 3, 64)),
    },
    seeds=(0,),
    ablation_steps=300,
    ablation_pairs=200,
    ablation_candidates=5,
    ablation_seeds=(0, 1, 2),
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
    sharpness=0.3,
    sampling_steps=20,
    sampler="ddim",
    candidates=10,
    traced_steps=50,
    traced_pairs=200,
    swept_steps=(1, 2, 5, 10, 20, 50, 100, 200),
    swept_pairs=40,
    curve_points=6,
    optimiser="muon",
    rate=2e-3,
)


_CPU_EDITING = EditingSizes(
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
)


_CPU_BEACONS = BeaconSizes(
    dtype="bfloat16",
    full_dtype="float32",
    first_layer=20,
    facts=100,
    steps=10,  # a fact alone is learnt within five
    read_steps=(0, 1, 2, 3, 4, 5, 7, 10),
    counts=(1, 10, 50, 100, 500),
    widest=100,
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
)


_CPU_DISTILLATION = DistillationSizes(
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
    batch=32,
    rate=3e-3,
    seeds=(0, 1, 2),
    decoding_seeds=(10, 20, 30, 40, 50),
    proportions=(1.0, 1.0, 1.0),
    on_policy=0.25,
    top_k=64,
    cache_gib=2.0,
)


def _sized(sizes: DiffusionSizes, steps: int, pairs: int, **other: Any) -> DiffusionSizes:
    """Return `sizes` with other training steps and test pairs for every task, and other fields."""
    tasks = {}
    for name, task in sizes.tasks.items():
        changes = {"training_steps": steps, "baseline_steps": steps, "test_pairs": pairs}
        tasks[name] = task.model_copy(update=changes | {"whole_verses": min(task.whole_verses, pairs)})
    return sizes.model_copy(update={"tasks": tasks, **other})


def _own(data: str, steps: int, pairs: int) -> TaskSizes:
    """Return the sizes of a task on the user's files, at the paper's length of 64 places."""
    return TaskSizes(data=data, training_steps=steps, baseline_steps=steps, test_pairs=pairs, window=(0.0, 64, 64))


PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        name="smoke",
        about="every notebook, table and figure at tiny sizes; never quoted as a result",
        offline=True,
        device="cpu",
        backbone=SMOLLM2,
        backbone_layers=4,
        diffusion=_sized(
            _CPU,
            steps=8,
            pairs=8,
            ablation_steps=4,
            ablation_pairs=4,
            ablation_candidates=3,
            train_pairs=1000,
            tokens=512,
            width=64,
            layers=2,
            heads=2,
            large=(96, 2, 2),
            sampling_steps=5,
            candidates=3,
            traced_steps=5,
            traced_pairs=8,
            swept_steps=(1, 2, 5),
            swept_pairs=4,
            curve_points=2,
        ),
        editing=_CPU_EDITING.model_copy(
            update={
                "layer": 1,
                "upper_layer": 2,
                "located": (1, 2),
                "runs": {1: 2},
                "most": 4,
                "slow": 4,
                "ablation": 4,
                "batches": 2,
                "passages": 4,
                "longest": 2,
                "steps": 3,
                "expert_width": 16,
                "moment_tokens": 2000,
                "mend_steps": 1,
                "unrelated": 8,
                "tuning": 4,
            }
        ),
        beacons=_CPU_BEACONS.model_copy(
            update={
                "first_layer": 2,
                "facts": 6,
                "steps": 2,
                "read_steps": (0, 1, 2),
                "counts": (1, 4),
                "widest": 4,
                "batch": 2,
                "pool": 8,
                "arm_steps": 3,
                "rates": (1e-3, 3e-3),
                "tuning": 4,
                "samples": 2,
                "rank": 2,
                "text_tokens": 200,
            }
        ),
        distillation=_CPU_DISTILLATION.model_copy(
            update={
                "examples": 24,
                "validation": 4,
                "test": 4,
                "teacher_layer": 2,
                "teacher_steps": 2,
                "teacher_batch": 4,
                "student": (32, 2, 2),
                "ratios": ((1, 32), (2, 16)),
                "steps": 3,
                "batch": 4,
                "decoding_seeds": (10, 20),
                "top_k": 8,
            }
        ),
    ),
    "cpu": Profile(
        name="cpu",
        about="real models and real text on two cores; the default, and the source of every committed number",
        offline=True,
        device="cpu",
        backbone=SMOLLM2,
        backbone_layers=None,
        diffusion=_CPU,
        editing=_CPU_EDITING,
        beacons=_CPU_BEACONS,
        distillation=_CPU_DISTILLATION,
    ),
    "gpu": Profile(
        name="gpu",
        about="the same code and text on one large GPU: BERT-sized denoiser, T = 2000",
        offline=True,
        device="cuda",
        backbone=SMOLLM2,
        backbone_layers=None,
        diffusion=_sized(
            _CPU,
            steps=600,
            pairs=500,
            ablation_steps=1000,
            ablation_pairs=500,
            ablation_candidates=3,
            vocabulary=10000,
            diffusion_steps=2000,
            tokens=16384,
            width=768,
            layers=12,
            heads=12,
            large=(1280, 36, 20),
            dropout=0.1,
            sampling_steps=50,
            traced_steps=50,
            traced_pairs=500,
            swept_steps=(1, 2, 5, 10, 20, 50, 100, 200, 500, 2000),
            swept_pairs=100,
            curve_points=2,
        ),
        editing=_CPU_EDITING.model_copy(
            update={"runs": {1: 100, 10: 10, 100: 3}, "most": 1000, "slow": 1000, "passages": 600, "mend_steps": 500}
        ),
        beacons=_CPU_BEACONS.model_copy(update={"facts": 500, "widest": 500, "pool": 500, "arm_steps": 400}),
        distillation=_CPU_DISTILLATION.model_copy(
            update={"examples": 10_000, "test": 500, "teacher_steps": 1000, "student": (512, 8, 8), "steps": 4000}
        ),
    ),
    "paper": Profile(
        name="paper",
        about="the paper's models, data and settings, read from the user's files",
        offline=False,
        device="cuda",
        backbone="meta-llama/Llama-2-7b-hf",
        backbone_layers=None,
        # Training steps: InfoDiffusion's for QQP, DiffuSeq's released ones for the others.
        diffusion=DiffusionSizes(
            tasks={
                "paraphrase": _own("QQP", 50_000, 2500),
                "simplification": _own("Wiki-Auto", 80_000, 5000),
                "dialogue": _own("CC", 140_000, 10_000),
                "question_generation": _own("Quasar-T", 40_000, 10_000),
            },
            seeds=(102,),
            ablation_steps=50_000,
            ablation_pairs=2500,
            ablation_candidates=10,
            ablation_seeds=(102, 103, 104),
            vocabulary=30522,
            train_pairs=None,
            diffusion_steps=2000,
            tokens=2048 * 128,
            embedding=128,
            width=768,
            layers=12,
            heads=12,
            dropout=0.1,
            large=(1280, 36, 20),
            published_shapes=True,
            embedding_scale=1.0,
            sharpness=1.0,
            sampling_steps=2000,
            sampler="ancestral",
            candidates=10,
            traced_steps=2000,
            traced_pairs=500,
            swept_steps=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
            swept_pairs=500,
            curve_points=10,
            optimiser="adamw",
            rate=1e-4,
        ),
        editing=_CPU_EDITING.model_copy(
            update={
                "dtype": "bfloat16",
                "upper_layer": 27,
                "located": (4, 5, 6, 7, 8),
                "runs": {1: 100, 10: 10, 100: 3},
                "most": 1000,
                "slow": 1000,
                "ablation": 1000,
                "passages": 600,
                "rate": 2e-4,
                "expert_width": 11008,
                "mend_steps": 1000,
                "unrelated": 1000,
                "tuning": 100,
            }
        ),
        # The paper's own settings are not known; these are of the field (LoRA on all layers, ten epochs).
        beacons=_CPU_BEACONS.model_copy(
            update={
                "full_dtype": "bfloat16",
                "first_layer": 0,
                "facts": 500,
                "widest": 500,
                "pool": 500,
                "arm_steps": 625,
            }
        ),
        # GPT-2-base recipe of the MiniLLM suite; the paper's own is not known.
        distillation=_CPU_DISTILLATION.model_copy(
            update={
                "suite": "minillm",
                "examples": 11_000,
                "test": 500,
                "longest": (256, 256),
                "teacher_layer": 0,
                "teacher_steps": 3500,
                "student": (768, 12, 12),
                "steps": 7000,
                "rate": 5e-4,
            }
        ),
    ),
}


def profile(name: str) -> Profile:
    """Return a profile; raises `UserError` for an unknown name."""
    if name not in PROFILES:
        raise UserError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def table() -> pd.DataFrame:
    """Return every size of every profile: one row per setting, one column per profile."""
    columns = {}
    for name, chosen in PROFILES.items():
        told = chosen.model_dump()
        sizes = told.pop("diffusion")
        tasks = {f"diffusion, {task}: {key}": v for task, own in sizes.pop("tasks").items() for key, v in own.items()}
        sizes = tasks | {f"diffusion: {key}": value for key, value in sizes.items()}
        for room in ("editing", "beacons", "distillation"):
            sizes |= {f"{room}: {key}": value for key, value in told.pop(room).items()}
        columns[name] = {key: "all" if value is None else str(value) for key, value in (told | sizes).items()}
    return pd.DataFrame(columns).drop(index=["name", "about"])
