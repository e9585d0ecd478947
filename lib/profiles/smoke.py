"""`smoke`: everything at tiny sizes, to see that it runs."""

from lib.profiles.cpu import BEACONS, DIFFUSION, DISTILLATION, EDITING, scaled
from lib.profiles.fields import SMOLLM2, Profile

PROFILE = Profile(
    name="smoke",
    about="every notebook, table and figure at tiny sizes; never quoted as a result",
    origin="smoke",
    offline=True,
    device="cpu",
    backbone=SMOLLM2,
    backbone_layers=4,
    diffusion=scaled(
        DIFFUSION,
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
    editing=EDITING.model_copy(
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
    beacons=BEACONS.model_copy(
        update={
            "first_layer": 2,
            "facts": 6,
            "steps": 2,
            "read_steps": (0, 1, 2),
            "counts": (1, 4),
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
    distillation=DISTILLATION.model_copy(
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
)
