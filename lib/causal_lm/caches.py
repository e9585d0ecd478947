"""The cache of what a model has read (keys and values), under the name that the installed transformers has for it.

Up to 5.23 it is `past_key_values`, since 5.24 `cache`: as an argument of models and of `generate`, and in their output.
"""

import inspect
from typing import Any

from torch import nn

NAMES = ("cache", "past_key_values")


def name(part: nn.Module) -> str:
    """Return the name of the argument by which a model, or the part of it that runs its blocks, takes a cache.

    Raises `TypeError` for one that takes none.
    """
    from transformers.modeling_outputs import BaseModelOutputWithPast

    parameters = inspect.signature(part.forward).parameters
    taken = set(parameters)
    if not taken & set(NAMES) and any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        taken = set(BaseModelOutputWithPast.__dataclass_fields__)  # it hands on what its own model takes
    for one in NAMES:
        if one in taken:
            return one
    raise TypeError(f"{type(part).__name__} takes no cache: give a causal language model")


def argument(part: nn.Module, cache: Any) -> dict[str, Any]:
    """Return a cache as the named argument that a model takes; raises as `name`."""
    return {name(part): cache}


def of(output: Any) -> Any:
    """Return the cache in what a model has put out; None where there is none."""
    return getattr(output, NAMES[0] if hasattr(output, NAMES[0]) else NAMES[1], None)
