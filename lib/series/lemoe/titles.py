"""What captions call the models and the sets of edits of a profile's tables, and how these differ from the paper's."""

from collections.abc import Sequence
from pathlib import Path

from lib import profiles
from lib.causal_lm.backbones import SMOLLM2
from lib.causal_lm.edits import Edit
from lib.series.lemoe import edit_files, file_runs
from lib.series.lemoe.edit_sets import edit_set
from lib.sources.own_files import EDIT_FILES

OWN = {"facts": "facts of countries, cities and elements", "passages": "passages of the World Factbook"}
THEIR_MODEL = "LLaMA-2-7B"


def model(backbone: str) -> str:
    """Return what a caption calls a model: its name without the folder, or without what was done to its weights."""
    name = "SmolLM2-135M" if backbone == SMOLLM2 else Path(backbone).name
    return THEIR_MODEL if name == "Llama-2-7b-hf" else name


def of_set(edits: str) -> str:
    """Return what a caption calls a set of edits."""
    return EDIT_FILES[edits].title if edits in EDIT_FILES else OWN[edits]


def told(profile: str, edits: str | None = None, backbone: str | None = None) -> str:
    """Return model and set; by default those of the profile's figures."""
    chosen = profiles.profile(profile)
    return f"{model(backbone or chosen.backbone)}, {of_set(edits or chosen.editing.sets[0])}"


def differs(profile: str, theirs: str, edits: str | None = None) -> str:
    """Return what of model and set is not the paper's, each part with "; " after it; "" where both are."""
    chosen = profiles.profile(profile)
    pairs = ((model(chosen.backbone), THEIR_MODEL), (of_set(edits or chosen.editing.sets[0]), theirs))
    return "".join(f"{ours}, not {one}; " for ours, one in pairs if ours != one)


def edits_of(profile: str) -> Sequence[Edit]:
    """Return the edits of the profile's figures; raises `UserError` for a file of the user's that is absent."""
    name = profiles.profile(profile).editing.sets[0]
    return file_runs.edits_of(name, edit_files.digest(name, profile)) if name in EDIT_FILES else edit_set(name).edits
