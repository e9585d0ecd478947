"""How big everything is: four profiles as typed, frozen data, and one table that shows them."""

from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict

from lib.errors import UserError

Name = Literal["smoke", "cpu", "gpu", "paper"]
Row = Literal["core", "extended"]


class DiffusionSizes(BaseModel):
    """Sizes of the InfoDiffusion series; a training budget is a number of optimiser steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str  # "embedded", or the name of a folder of JSON lines under BENCHMARK_DIR
    vocabulary: int  # words; 30,522 is the uncased BERT vocabulary
    window: tuple[float, int, int]  # places of the target: ratio * source words + extra, at most
    train_pairs: int | None  # None: all
    test_pairs: int  # of the 500 fixed ones where the data is embedded
    whole_verses: int  # test sentences of the second row, up to 40 words
    diffusion_steps: int  # T
    training_steps: int
    tokens: int  # source and target words in a batch
    embedding: int
    width: int
    layers: int
    heads: int
    dropout: float
    embedding_scale: float  # norm of a word vector over sqrt(embedding)
    sharpness: float  # scale of the scores of the output layer
    sampling_steps: int
    sampler: Literal["ddim", "ancestral"]
    candidates: int  # for MBR; diversity uses the first 3
    curve_points: int  # times that training stops to score validation sentences
    optimiser: Literal["muon", "adamw"]
    rate: float
    seeds: tuple[int, ...]


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


SMOLLM2 = "SmolLM2-135M-Instruct (Q4_1, dequantised)"

_CPU = DiffusionSizes(
    data="embedded",
    vocabulary=8000,
    window=(1.0, 3, 64),
    train_pairs=None,
    test_pairs=500,
    whole_verses=200,
    diffusion_steps=200,
    training_steps=1000,
    tokens=2048,
    embedding=128,
    width=256,
    layers=4,
    heads=4,
    dropout=0.0,
    embedding_scale=0.3,
    sharpness=0.3,
    sampling_steps=20,
    sampler="ddim",
    candidates=10,
    curve_points=8,
    optimiser="muon",
    rate=2e-3,
    seeds=(0,),
)

PROFILES: dict[str, Profile] = {
    "smoke": Profile(
        name="smoke",
        about="every notebook, table and figure at tiny sizes; never quoted as a result",
        offline=True,
        device="cpu",
        backbone=SMOLLM2,
        backbone_layers=4,
        diffusion=_CPU.model_copy(
            update={
                "train_pairs": 2000,
                "test_pairs": 16,
                "whole_verses": 8,
                "training_steps": 20,
                "tokens": 512,
                "width": 64,
                "layers": 2,
                "heads": 2,
                "sampling_steps": 5,
                "candidates": 3,
                "curve_points": 2,
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
    ),
    "gpu": Profile(
        name="gpu",
        about="the same code and text on one large GPU: BERT-sized denoiser, T = 2000",
        offline=True,
        device="cuda",
        backbone=SMOLLM2,
        backbone_layers=None,
        diffusion=_CPU.model_copy(
            update={
                "vocabulary": 10000,
                "diffusion_steps": 2000,
                "training_steps": 20000,
                "tokens": 16384,
                "width": 768,
                "layers": 12,
                "heads": 12,
                "dropout": 0.1,
                "sampling_steps": 200,
            }
        ),
    ),
    "paper": Profile(
        name="paper",
        about="the paper's models, data and settings, read from the user's files",
        offline=False,
        device="cuda",
        backbone="meta-llama/Llama-2-7b-hf",
        backbone_layers=None,
        diffusion=DiffusionSizes(
            data="QQP",
            vocabulary=30522,
            window=(0.0, 64, 64),
            train_pairs=None,
            test_pairs=2500,
            whole_verses=0,
            diffusion_steps=2000,
            training_steps=50000,
            tokens=2048 * 128,
            embedding=128,
            width=768,
            layers=12,
            heads=12,
            dropout=0.1,
            embedding_scale=1.0,
            sharpness=1.0,
            sampling_steps=2000,
            sampler="ancestral",
            candidates=10,
            curve_points=10,
            optimiser="adamw",
            rate=1e-4,
            seeds=(102,),
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
        sizes = {f"diffusion: {key}": value for key, value in told.pop("diffusion").items()}
        columns[name] = {key: "all" if value is None else str(value) for key, value in (told | sizes).items()}
    return pd.DataFrame(columns).drop(index=["name", "about"])
