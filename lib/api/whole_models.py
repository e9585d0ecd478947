"""What would give other answers than an edited model's own, or lose its edits: refused in one line until `undo`.

Copies, checkpoints, and generation in which another model or a rule guesses tokens ahead.

Most methods put something beside the weights: hooks, which a checkpoint does not hold, and which in a deep copy would
still follow what the first model reads.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakKeyDictionary, ref

from torch import nn

from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SAVE, _COPY = "save_pretrained", "__reduce_ex__"  # the latter is what `copy.deepcopy`, pickle and `torch.save` ask for
_GUESS = "_get_candidate_generator"  # what `generate` asks for where tokens are guessed ahead
_BESIDE: WeakKeyDictionary[nn.Module, list[str]] = WeakKeyDictionary()  # titles of the methods, in their order
_OWN: WeakKeyDictionary[nn.Module, dict[str, Any]] = WeakKeyDictionary()  # what its user had put there himself


def refuse_parts(model: "PreTrainedModel", title: str) -> Callable[[], None]:
    """Refuse to save and to copy a model that has edits beside its weights; returns what ends that, in any order."""
    titles = _BESIDE.setdefault(model, [])
    if not titles:
        _OWN[model] = {name: vars(model)[name] for name in (_SAVE, _COPY, _GUESS) if name in vars(model)}

    def told() -> str:
        return f"the edits by {', '.join(dict.fromkeys(titles))} stand beside the weights"

    def refuse_saving(*_: Any, **__: Any) -> NoReturn:
        raise UserError(
            f"{told()}, and would be missing: `save` of what `edit` returned keeps them; `undo` them to save the model"
        )

    def refuse_copying(*_: Any) -> NoReturn:
        raise UserError(
            f"{told()}, and would not work in a copy: `save` them, copy the model unedited, and `load` them on it"
        )

    followed = ref(model)

    def refuse_guessing(*arguments: Any, **named: Any) -> Any:
        edited = followed()
        if edited is not None and "generate" not in vars(edited):  # no method looks where the prompt ends (LoRA)
            return type(edited)._get_candidate_generator(edited, *arguments, **named)
        raise UserError(
            f"{told()} and look at the prompt, where tokens that are guessed ahead would be taken for a part of "
            "it: leave assistant_model and prompt_lookup_num_tokens out"
        )

    def end() -> None:
        titles.remove(title)
        if not titles:
            for name in (_SAVE, _COPY, _GUESS):
                vars(model).pop(name, None)
            vars(model).update(_OWN.pop(model, {}))

    titles.append(title)
    vars(model).update({_SAVE: refuse_saving, _COPY: refuse_copying, _GUESS: refuse_guessing})
    return end
