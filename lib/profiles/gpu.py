"""`gpu`: the code of `cpu` at the paper's size and with longer text, on one large GPU."""

from lib.profiles.cpu import BEACONS, DIFFUSION, DISTILLATION, EDITING, scaled
from lib.profiles.fields import SMOLLM2, Profile

_SIZES = scaled(
    DIFFUSION,
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
)
# Longer text than in `cpu`: whole turns of a dialogue, and a window that leaves out hardly any verse or reply.
_LONGER = {"data": "embedded", "training_steps": 1000, "baseline_steps": 1000, "window": (1.5, 8, 64)}
_TASKS = {
    name: task.model_copy(update=_LONGER) if name in ("simplification", "dialogue") else task
    for name, task in _SIZES.tasks.items()
}

PROFILE = Profile(
    name="gpu",
    about="the same code on one large GPU: BERT-sized denoiser, T = 2000, longer text",
    origin="gpu",
    offline=True,
    device="cuda",
    backbone=SMOLLM2,
    backbone_layers=None,
    diffusion=_SIZES.model_copy(update={"tasks": _TASKS}),
    editing=EDITING.model_copy(
        update={"runs": {1: 100, 10: 10, 100: 3}, "most": 1000, "slow": 1000, "passages": 160, "mend_steps": 500}
    ),
    beacons=BEACONS.model_copy(update={"facts": 500, "pool": 500, "arm_steps": 400}),
    distillation=DISTILLATION.model_copy(
        update={"examples": 10_000, "test": 500, "teacher_steps": 1000, "student": (512, 8, 8), "steps": 4000}
    ),
)
