"""What hands the methods to a model and data of one's own: a few functions, Trainers, and the command line.

from lib.api import Edit, edit, load
from lib.api.distillation import DistillationTrainer
from lib.api.beacons import WeightedTrainer, keep, measure, weigh
from lib.api.diffusion import load, train
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lib.api.editing import METHODS, Edit, Edited, edit, load, read_edits

__all__ = ["METHODS", "Edit", "Edited", "edit", "load", "read_edits"]


def __getattr__(name: str) -> Any:
    """Return what `lib.api.editing` has of that name: imported when first asked for, as it takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lib.api import editing

    return {
        "METHODS": editing.METHODS,
        "Edit": editing.Edit,
        "Edited": editing.Edited,
        "edit": editing.edit,
        "load": editing.load,
        "read_edits": editing.read_edits,
    }[name]


def __dir__() -> list[str]:
    """Return what the package hands on, for those who look around in a shell."""
    return list(__all__)
