"""What a profile holds: the sizes of every series, and where they run."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from lib.profiles.sizes import BeaconSizes, DiffusionSizes, DistillationSizes, EditingSizes
from lib.settings import Settings

SMOLLM2 = "SmolLM2-135M-Instruct (Q4_1, dequantised)"


class Profile(Settings):
    """One size of everything: what runs, on what, and how long it may take."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]  # a folder of records
    about: str
    origin: Literal["smoke", "cpu", "gpu", "paper"]  # what it starts from, which is itself but for one of your own
    offline: bool  # no hub is contacted
    device: Literal["cpu", "cuda"]
    backbone: str
    backbone_layers: PositiveInt | None  # None: all
    diffusion: DiffusionSizes
    editing: EditingSizes
    beacons: BeaconSizes
    distillation: DistillationSizes
