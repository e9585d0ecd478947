"""`paper`: the papers' models, data and settings, from the user's files or the hub."""

import math
import os

from lib.profiles.cpu import BEACONS, DISTILLATION, EDITING
from lib.profiles.fields import Profile
from lib.profiles.sizes import DiffusionSizes, TaskSizes


def _own(data: str, steps: int, pairs: int) -> TaskSizes:
    """Return the sizes of a task on the user's files, at the paper's length of 64 places."""
    return TaskSizes(data=data, training_steps=steps, baseline_steps=steps, test_pairs=pairs, window=(0.0, 64, 64))


PROFILE = Profile(
    name="paper",
    about="the paper's models, data and settings, read from the user's files",
    origin="paper",
    offline=False,
    device="cuda",
    backbone="meta-llama/Llama-2-7b-hf",
    backbone_layers=None,
    # Training steps: InfoDiffusion's for QQP, DiffuSeq's released ones for the others.
    diffusion=DiffusionSizes(
        tasks={
            "paraphrase": _own("QQP", 50_000, 2500),
            "simplification": _own("Wiki-Auto", 80_000, 5000),
            "dialogue": _own("CommonsenseConversation", 140_000, 10_000),
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
        micro_tokens=64 * 128,  # DiffuSeq's released micro-batch
        embedding=128,
        width=768,
        layers=12,
        heads=12,
        dropout=0.1,
        large=(1280, 36, 20),
        published_shapes=True,
        released_process=True,
        embedding_scale=1.0,
        sharpness=math.sqrt(128),  # the score of a word is the product of the vectors
        sampling_steps=2000,
        sampler="ancestral",
        clamp="nearest",
        candidates=10,
        traced_steps=2000,
        traced_pairs=500,
        swept_steps=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
        swept_pairs=500,
        curve_points=10,
        optimiser="adamw",
        rate=1e-4,
        all_core=True,
    ),
    editing=EDITING.model_copy(
        update={
            "dtype": "bfloat16",
            "upper_layer": 27,
            "located": (4, 5, 6, 7, 8),
            "sets": ("zsre", "counterfact"),
            "long_set": "selfcheckgpt",
            "backbones": ("mistralai/Mistral-7B-v0.1",),
            "rows": ("routing/shared",),  # the paper's trained projection and learned keys, beside ours
            "all_core": True,
            "runs": {1: 100, 10: 10, 100: 3, 1000: 1, 2000: 1},
            "most": 3000,
            "slow": 3000,
            "ablation": 1000,
            "passages": 600,
            "rate": 2e-4,
            "expert_width": 11008,
            "released": True,
            "released_layers": {"ft_last": (21,), "ft": (21,), "rome": (5,), "mend": (29, 30, 31)},
            "mend_steps": 10_000,
            "longest": 10_000,  # no bound beside what the methods' releases say
            "unrelated": 1000,
            "tuning": 100,
        }
    ),
    # The paper's own settings are not known; these are of the field (LoRA on all layers, ten epochs).
    beacons=BEACONS.model_copy(
        update={
            "full_dtype": "bfloat16",
            "first_layer": 0,
            "facts": 500,
            "pool": 500,
            "arm_steps": 625,
        }
    ),
    # MiniLLM's recipes for LLaMA-2-7B (teacher) and GPT-2 base (students); the paper's own is not known.
    distillation=DISTILLATION.model_copy(
        update={
            "suite": "minillm",
            "examples": 11_000,
            "test": 500,
            "longest": (256, 256),
            "teacher_layer": 24,  # the upper eight: AdamW's moments of all 32 need 108 GB before anything else
            "teacher_frozen": "bfloat16",
            "checkpointing": True,
            "teacher_steps": 3500,  # ten epochs
            "teacher_batch": 32,  # one row in two passes on each of sixteen cards
            "teacher_parts": 4,
            "teacher_rate": 1e-5,
            "warm_up": 0.0,
            "student": (768, 12, 12),
            "style": "gpt2_checkpoint",
            "steps": 7000,
            "rate": 5e-4,
            "optimiser": "adamw",
            "language": None,  # sets of our own: the field's are the suite above
        }
    ),
)


def with_backbones(chosen: Profile) -> Profile:
    """Return the profile with the models that BACKBONE names: folders or hub names, parted as the folders of PATH are.

    Series 2 and 4 take the first; without BACKBONE the profile is as it stands.
    """
    named = [name for name in os.environ.get("BACKBONE", "").split(os.pathsep) if name.strip()]
    if not named:
        return chosen
    editing = chosen.editing.model_copy(update={"backbones": tuple(named[1:])})
    return chosen.model_copy(update={"backbone": named[0], "editing": editing})
