"""One's own rows of prompts and responses, or of chats, in a tokenizer's ids."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from lib.causal_lm.encoding import leading, pair_parts
from lib.distillation.batches import Example
from lib.errors import UserError
from lib.text import json_records

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class WholeVocabulary:
    """A tokenizer as `lib.distillation` reads one: every token, its own end token; padding is never learned from."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Take a tokenizer; raises `UserError` for one without an end token."""
        if tokenizer.eos_token_id is None:
            raise UserError(f"{type(tokenizer).__name__}: no end token, so no response would end: set eos_token")
        self.tokenizer = tokenizer
        self.end: int = tokenizer.eos_token_id
        self.pad: int = self.end if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self.unknown: int = self.pad if tokenizer.unk_token_id is None else tokenizer.unk_token_id
        self.leading = leading(tokenizer)

    def __len__(self) -> int:
        """Return the number of tokens, special ones included."""
        return len(self.tokenizer)

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without the special ones."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def content_hash(self) -> str:
        """Return the SHA-256 of the tokens in their order."""
        return hashlib.sha256(json.dumps(sorted(self.tokenizer.get_vocab().items())).encode()).hexdigest()


def check_trained(model: "PreTrainedModel") -> None:
    """Raise `UserError` for a model that no training would change, as an edited one until its edits are undone."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(
            f"{type(model).__name__}: all its weights are frozen: `undo` edits that are on it, or say which are to "
            "learn (requires_grad_)"
        )


class Numbers(Dataset[dict[str, int]]):
    """Rows by number, under the name that a Trainer hands them on by."""

    def __init__(self, name: str, numbers: range) -> None:
        """Take the name and the numbers."""
        self._name, self._numbers = name, numbers

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._numbers)

    def __getitem__(self, place: int) -> dict[str, int]:
        """Return the number of the row at a place."""
        return {self._name: self._numbers[place]}


def encode(
    tokenizer: "PreTrainedTokenizerBase", rows: Iterable[Mapping[str, Any]], longest: int = 512
) -> list[Example]:
    """Return rows of {"prompt", "response"}, or of chats {"messages"}, in ids, each with the end token.

    A prompt is encoded as the tokenizer encodes any text, a response as what follows it (`lib.causal_lm.encoding`). Of
    more than `longest` tokens the prompt loses its first ordinary ones. Of a chat the last message is the response and
    the tokenizer's template gives the rest. Raises `UserError` naming the row and field that is missing, of another
    type, or empty.
    """
    found = []
    for number, row in enumerate(rows, start=1):
        prompt, whole = _texts(tokenizer, row, number)
        first, asked, told = pair_parts(tokenizer, prompt, whole[len(prompt) :])
        first = [] if "messages" in row else first  # a template has its own
        response = [one for one in told if one != tokenizer.eos_token_id]
        if not asked or not response:
            raise UserError(f"row {number}: no token of the prompt or of the response is left: give both some text")
        room = longest - len(first) - len(response) - 1
        if room < 1:
            raise UserError(f"row {number}: its response has {len(response)} tokens, the limit is {longest}: raise it")
        found.append(Example((*first, *asked[-room:]), (*response, tokenizer.eos_token_id)))
    if not found:
        raise UserError("no rows to distil on: give at least one")
    return found


def _texts(tokenizer: "PreTrainedTokenizerBase", row: Mapping[str, Any], number: int) -> tuple[str, str]:
    """Return the text of a row's prompt, and of prompt and response together."""
    row = json_records.fields(row, f"row {number}", '{"prompt": ..., "response": ...} or {"messages": ...}')
    if "messages" in row:
        if getattr(tokenizer, "chat_template", None) is None:
            raise UserError(f"row {number}: a chat, and the tokenizer has no template: give prompt and response")
        messages = row["messages"]
        if not isinstance(messages, list) or len(messages) < 2:
            raise UserError(f"row {number}: messages must be a list of two at least, the last of them the response")
        if wrong := [one for one in messages if not isinstance(one, Mapping) or "role" not in one]:
            raise UserError(f'row {number}: a message must be {{"role": ..., "content": ...}}, not {wrong[0]!r}')
        response = messages[-1].get("content")
        if not isinstance(response, str) or not response.strip():
            raise UserError(
                f"row {number}: the content of the last message must be a text that is not empty, not {response!r}"
            )
        try:
            prompt = tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True)
        except Exception as error:  # a template is code of a model's own: its rules and errors are of any kind
            raise UserError(f"row {number}: the tokenizer's template takes no such messages: {error}") from error
        return prompt, prompt + response
    for name in ("prompt", "response"):
        if not isinstance(row.get(name), str) or not row[name].strip():
            raise UserError(f"row {number}: {name} must be a text that is not empty, not {row.get(name)!r}")
    blank = "" if row["prompt"][-1].isspace() or row["response"][0].isspace() else " "
    return row["prompt"], row["prompt"] + blank + row["response"]
