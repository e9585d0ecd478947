"""Edit a model of one's own by any of the methods, test it, save it, take it back.

edited = edit(model, tokenizer, [("The capital of France is", " Lyon")], method="wise")
edited.add([Edit("Gold has the symbol", " Ag", "Gold")])
edited.scores()                            # {"rel": 1.0, "gen": None, "loc": None}
edited.save("edits"); edited.undo()
edited = load("edits", model, tokenizer)
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from pydantic import ValidationError

from lib import paths
from lib.api import plain_facts, saved_edits
from lib.api.editing_bench import Bench, Sizes, shipped_texts, shipped_unrelated
from lib.api.editing_methods import METHODS, Method, first_problem
from lib.api.methods_table import about, table
from lib.api.reading_edits import read_edits
from lib.api.saved_edits import Content
from lib.api.whole_models import refuse_parts
from lib.causal_lm import holds
from lib.causal_lm.edits import Edit, Given, as_edits, check
from lib.causal_lm.edits import texts as as_texts
from lib.causal_lm.encoding import check_tokenizer, encode_edits, tokens
from lib.causal_lm.layers import blocks, down_projection
from lib.editing import scoring
from lib.editing.editor import Editor
from lib.editing.undoing import Before, whole
from lib.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["METHODS", "Edit", "Edited", "Method", "edit", "load", "read_edits"]


@contextmanager
def _learning() -> Iterator[None]:
    """Let methods take gradients, also where a user has switched them off, as for inference."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


class Edited:
    """A model with edits on it: `model` answers as edited until `undo`, or until the `with` block is left."""

    def __init__(
        self, method: str, editor: Editor, identity: dict[str, Any], bench: Bench, beneath: bool = False
    ) -> None:
        """Take an editor that has not edited yet; `edit` and `load` are the ways to get here.

        `beneath` tells whether there were other edits on the model already.
        """
        self.method, self.editor = method, editor
        self.model, self.tokenizer = editor.model, editor.tokenizer
        self._identity, self._bench, self._beneath = identity, bench, beneath
        self._batches: list[list[Edit]] = []
        self._answers: scoring.Before = {}
        self._undone = False
        self._release = None if METHODS[method].in_weights else refuse_parts(self.model, METHODS[method].title)

    @property
    def edits(self) -> list[Edit]:
        """Return all edits so far, in their order."""
        return [edit for batch in self._batches for edit in batch]

    @_learning()
    def add(self, edits: Iterable[Given]) -> Self:
        """Learn a further batch on top of those before, whole or not at all.

        Raises as `edit`, and `UserError` after `undo` and for a model in training mode.
        """
        self._check_open()
        _check_mode(self.model)
        batch = as_edits(edits)
        if not batch:
            raise UserError("no edits: give at least one")
        _check_targets(batch)
        encode_edits(self.model, self.tokenizer, batch, METHODS[self.method].subject)  # raises before anything is run
        asked = [edit for edit in batch if edit.locality is not None and edit.locality not in self._answers]
        with self.editor.without_edits():
            answers = scoring.before(self.editor, asked)
        self._learn(batch)
        self._answers |= answers
        self._batches.append(batch)
        return self

    def scores(self) -> dict[str, float | None]:
        """Score the model on all edits so far: shares in [0, 1], None where no edit asks.

        "rel": of the targets' tokens that are the most likely ones; "gen": the same after the rephrases; "loc": of
        places of the locality answers whose most likely token is still that of the unedited model.
        """
        self._check_open()
        _check_mode(self.model)
        found = scoring.summary(scoring.score(self.editor, self.edits, self._answers))
        return {name: None if np.isnan(found[name.title()]) else found[name.title()] for name in ("rel", "gen", "loc")}

    def save(self, folder: Path | str, overwrite: bool = False) -> None:
        """Write the edits into a folder: edits.safetensors, config.json and a card, README.md (which names the edits).

        The model itself is not saved. Raises `UserError` after `undo`, where other edits are or were on the model too,
        where the model was given another precision since, and where the folder cannot be written to or, unless
        `overwrite`, holds such files but no saved edits.
        """
        self._check_open()
        now, was = saved_edits.precision(self.model), self._identity["precision"]
        if now != was:
            raise UserError(f"the model was edited in {was} and is in {now}: `undo`, and edit it in what it is to have")
        own = (self.editor, getattr(self.editor, "adaptor", None))
        if self._beneath or any(one() not in own for one in holds.holders(self.model)):
            raise UserError("other edits are or were on the model too, and would be missing: save those of one `edit`")
        method = METHODS[self.method]
        tensors, state = self.editor.saved_state()
        content = Content(
            method=self.method,
            settings=self._bench.config.model_dump(mode="json"),
            model=self._identity,
            tokenizer=saved_edits.tokens_digest(self.tokenizer, self._batches),
            batches=[[saved_edits.as_dict(edit) for edit in batch] for batch in self._batches],
            answers=[(prompt, answer, list(found)) for (prompt, answer), found in self._answers.items()],
            texts=list(self._bench.texts),
            unrelated=list(self._bench.unrelated),
            state=state,
        )
        card = saved_edits.card(method.title, self.method, method.about, method.limits, content, self.scores())
        saved_edits.write(_folder(folder), tensors, content, card, overwrite)

    def undo(self) -> None:
        """Give the model back as it was before the first edit, to the bit; a second time nothing happens."""
        if not self._undone:
            self.editor.restore()
            if self._release is not None:
                self._release()
        self._undone = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()

    def _learn(self, batch: Sequence[Edit]) -> None:
        if not METHODS[self.method].alone:
            self.editor.edit(batch)
            return
        # Each edit is whole by itself; that all of them are, needs the weights from before the first.
        written = [down_projection(self.model, layer) for layer in self._bench.config.layers]
        with whole(Before(self.editor, self.model, written, apart=[self.tokenizer])):
            for one in batch:
                self.editor.edit([one])

    def _check_open(self) -> None:
        if self._undone:
            raise UserError("the edits are undone: call `edit` or `load` again")


@_learning()
def edit(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    edits: Iterable[Given],
    method: str = "lemoe",
    *,
    tuned: bool = False,
    texts: Iterable[str] | None = None,
    unrelated: Iterable[str] | None = None,
    tuning: Iterable[Given] | None = None,
    **settings: Any,
) -> Edited:
    """Edit a model in place and return it as an `Edited`, which adds, scores, saves and undoes.

    `edits` are `Edit`s, dicts of its fields, or (prompt, target) pairs; a target begins with its blank. `settings`
    override those of the method (its class in `METHODS[method].settings`). Defaults are those of the authors' release,
    which are made for models of billions of parameters; with `tuned` ours for small models, where the table below has
    them; where there is no release, what worked best on our tuning split. Layers are shares of the depth (SmolLM2, of
    30: 18, 24, or 7 to 9), widths shares of the model's.

    Some methods need more than edits: `texts` that second moments are taken from (100,000 tokens, ideally), `unrelated`
    texts that edits are not to touch, `tuning` edits with a locality question that MEND's network is trained on. Where
    they are not given, a small set of plain sentences and facts that is shipped here is used: enough to work with, not
    to reproduce published scores.

    Raises `UserError` in one line for an unknown method or setting, no edits, and those that the method cannot take,
    `TypeError` for arguments of another kind, `DivergedError` where what is learnt is not finite: the model is then as
    it was.
    """
    batch = as_edits(edits)
    row = METHODS[method]
    blocks(model)
    check_tokenizer(tokenizer)
    if not batch:
        raise UserError("no edits: give at least one")
    _check_mode(model)
    _check_targets(batch)
    for one in batch:
        check(one, row.subject)
    given = {"texts": texts, "unrelated": unrelated, "tuning": tuning}
    for name, value in given.items():
        if value is not None and name not in row.needs:
            raise UserError(f"{method} takes no {name}: leave it out")
    config = row.configure(Sizes(model, len(batch)), settings, tuned)
    bench = Bench(
        model,
        tokenizer,
        config,
        _texts(texts, "texts", shipped_texts) if "texts" in row.needs else (),
        _unrelated(model, tokenizer, unrelated, batch) if "unrelated" in row.needs else (),
        (plain_facts.practice_edits() if tuning is None else as_edits(tuning, "tuning"))
        if "tuning" in row.needs
        else (),
    )
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    identity, beneath = saved_edits.identity(model), bool(holds.holders(model))
    editor, edited = None, None
    try:
        editor = row.build(bench)
        edited = Edited(method, editor, identity, bench, beneath)
        return edited.add(batch)
    except BaseException:
        if edited is not None:
            edited.undo()
        elif editor is not None:
            editor.restore()
        for parameter, was in trained:
            parameter.requires_grad_(was)
        raise


edit.__doc__ = f"{edit.__doc__}\n    {about()}\n\n    " + table().replace("\n", "\n    ") + "\n    "


@_learning()
def load(folder: Path | str, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> Edited:
    """Put saved edits on the unedited model that they were made for; logits, and further edits, are those of before.

    All or nothing: `UserError` in one line for a folder that is missing or damaged, another model or tokenizer;
    `TypeError` for what is no model, no tokenizer, no path. The model is then as it was.
    """
    folder = _folder(folder)
    blocks(model)
    check_tokenizer(tokenizer)
    _check_mode(model)
    content, tensors = saved_edits.read(folder)
    place = paths.relative(folder)
    trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    editor = None
    try:
        method = METHODS[content.method]
        config = method.settings(**content.settings)
        batches = [as_edits(batch) for batch in content.batches]
        saved_edits.check_model(folder, content, model)
        if holds.holders(model):
            raise UserError(f"{place}: other edits are on the model: undo them first")
        if content.tokenizer != saved_edits.tokens_digest(tokenizer, batches):
            raise UserError(f"{place}: made with another tokenizer: load the one that belongs to the model")
        prefixes = content.state.get("prefixes")
        bench = Bench(model, tokenizer, config, content.texts, content.unrelated, prefixes=prefixes, fresh=False)
        editor = method.build(bench)
        device = model.device
        editor.take_state({name: value.to(device) for name, value in tensors.items()}, content.state)
    except BaseException as error:
        if editor is not None:
            editor.restore()
        for parameter, was in trained:
            parameter.requires_grad_(was)
        if isinstance(error, ValidationError):
            raise UserError(f"{place}: {first_problem(error, method.settings)}; save it again") from error
        if isinstance(error, (KeyError, ValueError, TypeError, RuntimeError, AttributeError)) and not isinstance(
            error, UserError
        ):
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{place}: not whole ({told}); save it again") from error
        raise
    edited = Edited(content.method, editor, content.model, bench)
    edited._batches = batches
    edited._answers = {(prompt, answer): tuple(found) for prompt, answer, found in content.answers}
    return edited


def _check_targets(batch: Sequence[Edit]) -> None:
    """Raise `UserError` for a prompt with two targets, of which at most one can be learnt."""
    found: dict[str, str] = {}
    for one in batch:
        if found.setdefault(one.prompt, one.target) != one.target:
            both = f"{found[one.prompt]!r} and {one.target!r}"
            raise UserError(f"{one.prompt!r} has two targets, {both}: keep one, or `add` the later one afterwards")


def _check_mode(model: "PreTrainedModel") -> None:
    if model.training:
        raise UserError("the model is in training mode: call model.eval() first")
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise UserError("the model was made in inference mode, so it takes no gradients: load it outside of that")


def _texts(given: Iterable[str] | None, name: str, shipped: Any) -> list[str]:
    return shipped() if given is None else as_texts(given, name)


def _unrelated(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    given: Iterable[str] | None,
    edits: Sequence[Edit],
) -> list[str]:
    """Return the unrelated texts: those given, or of the shipped ones those that fit into the model's context."""
    if given is not None:
        return as_texts(given, "unrelated")
    context = getattr(model.config, "max_position_embeddings", None) or 512
    return [text for text in shipped_unrelated(edits) if 0 < len(tokens(tokenizer, text)) <= context // 2]


def _folder(folder: Any) -> Path:
    if not isinstance(folder, (str, Path)):
        raise TypeError(f"folder is of type {type(folder).__name__}: give a path")
    return Path(folder)
