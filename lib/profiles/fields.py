"""What a profile holds: the sizes of every series, and where they run."""

from typing import Literal

from pydantic import PositiveInt

from lib.profiles.sizes import BeaconSizes, DiffusionSizes, DistillationSizes, EditingSizes
from lib.settings import Settings

SMOLLM2 = "SmolLM2-135M-Instruct (Q4_1, dequantised)"


class Profile(Settings):
    """One size of everything: what runs, on what, and how long it may take."""

    name: Literal["smoke", "cpu", "gpu", "paper"]
    about: str
    offline: bool  # no hub is contacted
    device: Literal["cpu", "cuda"]
    backbone: str
    backbone_layers: PositiveInt | None  # None: all
    diffusion: DiffusionSizes
    editing: EditingSizes
    beacons: BeaconSizes
    distillation: DistillationSizes
