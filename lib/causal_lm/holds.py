"""Who holds a model: adaptors and editors freeze it together, and the last to leave gives back what was trained."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import ReferenceType, WeakKeyDictionary, ref

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Hold:
    """Which parameters of a model were trained before the first holder came, and the holders in their order."""

    trained: list[tuple[nn.Parameter, bool]]
    holders: list[ReferenceType[object]] = field(default_factory=list)  # one that is forgotten holds nothing


_HOLDS: WeakKeyDictionary[nn.Module, Hold] = WeakKeyDictionary()


def take(model: "PreTrainedModel", holder: object) -> None:
    """Freeze a model for a holder, which counts once; what was trained is remembered when the first comes."""
    found = holders(model)
    if not found:
        # Of holders that were forgotten, not let go, the model is still frozen: what they found is still what was.
        before = {id(parameter): trained for parameter, trained in _HOLDS[model].trained} if model in _HOLDS else {}
        now = [
            (parameter, parameter.requires_grad or before.get(id(parameter), False)) for parameter in model.parameters()
        ]
        _HOLDS[model] = Hold(now, found)
    model.requires_grad_(False)
    if all(one() is not holder for one in found):
        found.append(ref(holder))


def leave(model: "PreTrainedModel", holder: object) -> None:
    """Let a holder go; with the last, in whatever order they go, every parameter is trained or not as before."""
    found = holders(model)
    if all(one() is not holder for one in found):
        return
    found[:] = [one for one in found if one() is not holder]
    if not found:
        for parameter, trained in _HOLDS.pop(model).trained:
            parameter.requires_grad_(trained)


def holders(model: "PreTrainedModel") -> list[ReferenceType[object]]:
    """Return the list itself of those that hold a model, first come first; a new one where nobody ever did."""
    if model not in _HOLDS:
        return []
    found = _HOLDS[model].holders
    found[:] = [one for one in found if one() is not None]
    return found
