"""Every editor learns a batch whole or not at all, and editors of one model can be restored in any order."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from lib.causal_lm.edits import Edit
from lib.editing.alphaedit import AlphaEdit, AlphaEditConfig, ResumableAlphaEdit
from lib.editing.defer import Defer, DeferConfig
from lib.editing.editor import Editor, NoEdit
from lib.editing.fine_tuning import EwcConfig, EwcFineTuning, FineTuning, FineTuningConfig
from lib.editing.grace import Grace, GraceConfig
from lib.editing.lora import LoraConfig, LoraFineTuning
from lib.editing.memit import Memit, MemitConfig
from lib.editing.mend import Mend, MendConfig
from lib.editing.mend_network import Transformation
from lib.editing.rome import Rome, RomeConfig
from lib.editing.undoing import Before
from lib.editing.wise import Wise, WiseConfig
from lib.errors import DivergedError, UserError
from lib.lemoe.adaptor import Adaptor, AdaptorConfig
from lib.lemoe.conventional import Conventional, ConventionalConfig
from lib.lemoe.editor import LemoeEditor, OracleEditor
from lib.lemoe.memoe import Memoe, MemoeConfig
from tests.tiny_models import Letters, llama

UNRELATED = ["p p n", "m o m", "i j"]
BATCHES = [
    [Edit("a b c", " d", "b c"), Edit("b b a e", " f", "e")],
    [Edit("c k c", " h", "k"), Edit("k l", " m", "l")],
]
BAD = [Edit("n o p", " i", "o"), Edit("h g", " e", "g")]
LOCATED = {"steps": 3, "prefixes": (), "rate": 0.1}


def moments(width: int = 24) -> dict[int, torch.Tensor]:
    drawn = torch.randn(2 * width, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    null = drawn.T @ drawn / (2 * width)
    values, vectors = torch.linalg.eigh(null)
    values[: width // 2] = 1e-3  # AlphaEdit finds a null space
    return {layer: vectors @ torch.diag(values) @ vectors.T for layer in (1, 2)}


def lemoe(kind: type[LemoeEditor] = LemoeEditor, **changes: Any) -> Callable[[Any], Editor]:
    config = AdaptorConfig(layer=1, router_width=8, rate=1e-2, steps=3, **changes)
    return lambda model: kind(model, Letters(), config, unrelated=UNRELATED)


def transformation() -> Transformation:
    return Transformation(MendConfig.tuned(layers=(1, 2), rank=4, edit_rate=1e-2), [(16, 24)] * 2)


MAKE: dict[str, Callable[[Any], Editor]] = {
    "FT": lambda model: FineTuning(model, Letters(), FineTuningConfig(layer=1, steps=3, radius=None)),
    "EWC": lambda model: EwcFineTuning(model, Letters(), EwcConfig(layer=1, steps=3)),
    "LoRA": lambda model: LoraFineTuning(model, Letters(), LoraConfig(steps=3, rank=2)),
    "ROME": lambda model: Rome(model, Letters(), RomeConfig(layer=1, **LOCATED), moments(), [""]),
    "MEMIT": lambda model: Memit(model, Letters(), MemitConfig(layers=(1, 2), **LOCATED), moments(), [""]),
    "AlphaEdit": lambda model: AlphaEdit(model, Letters(), AlphaEditConfig(layers=(1, 2), **LOCATED), moments(), [""]),
    "MEND": lambda model: Mend(model, Letters(), transformation()),
    "DEFER": lambda model: Defer(model, Letters(), DeferConfig(layer=1, steps=3), UNRELATED),
    "GRACE": lambda model: Grace(model, Letters(), GraceConfig(layer=1, steps=3)),
    "WISE": lambda model: Wise(model, Letters(), UNRELATED, WiseConfig(layer=1, steps=3, shard=3, limit=None)),
    "conventional": lambda model: Conventional(
        model, Letters(), ConventionalConfig(layer=1, rate=1e-2, steps=3, router_width=8)
    ),
    "MEMoE": lambda model: Memoe(model, Letters(), MemoeConfig(layer=1, experts=2, rate=1e-2, steps=3)),
    "LEMoE": lemoe(),
    "LEMoE, threshold": lemoe(rejection="threshold", keys="mean", anchor="entity"),
    "LEMoE, null key": lemoe(rejection="null", projection="shared"),
    "LEMoE, locality": lemoe(rejection="locality_loss", expert="lora", projection="per_expert"),
    "oracle": lemoe(OracleEditor),
}
EVERY = pytest.mark.parametrize("name", MAKE)


def kinds(base: type[Editor] = Editor) -> Iterator[type[Editor]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_editor_of_the_project_is_here() -> None:
    concrete = {kind for kind in kinds() if kind.__module__.startswith("lib.") and not kind.__abstractmethods__}
    made = {type(make(llama())) for make in MAKE.values()}
    bases = {kind for kind in concrete if any(other is not kind and issubclass(other, kind) for other in made)}
    # The one that can be saved is its parent with another memory; tests/api/test_editing.py has it.
    assert concrete - made - bases == {NoEdit, ResumableAlphaEdit}


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> Callable[[Editor], Callable[[], None]]:
    """Give an editor settings with which it diverges; what is returned gives it its own again."""

    def spoilt(editor: Editor) -> Callable[[], None]:
        if isinstance(editor, Mend):
            rates = editor.transformation.networks[0].rates
            own = rates.detach().clone()
            rates.data.fill_(69.0)  # a rate of 1e30
            return lambda: rates.data.copy_(own)
        changes = {"rate": 1e30, "gate_rate": 1e30, "kl": 1e308}  # the bound on a value's norm would hold any rate
        holders = [(editor, name) for name in ("config", "spread") if hasattr(editor, name)]
        if getattr(editor, "adaptor", None) is not None:
            holders.append((editor.adaptor, "config"))
        kept = [(holder, name, getattr(holder, name)) for holder, name in holders]
        for holder, name, config in kept:
            update = {field: value for field, value in changes.items() if field in type(config).model_fields}
            setattr(holder, name, config.model_copy(update=update))

        def back() -> None:
            for holder, name, config in kept:
                setattr(holder, name, config)

        return back

    return spoilt


def state(editor: Editor) -> tuple[dict[str, torch.Tensor], list[torch.Tensor], list[bool], torch.Tensor]:
    """The model's weights, all tensors of the editor in their order, what is trained, and what the model answers."""
    model = editor.model
    weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
    found = answers(model)  # first: a pass leaves its routes in the editor
    before = Before(editor, model, apart=[editor.tokenizer])
    own = [one.detach().clone() for one in before._known if isinstance(one, torch.Tensor)]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    return weights, own, trained, found


def answers(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([Letters()(text)["input_ids"] for text in ("a b c", "c k c", "n o p")])).logits


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and same(list(one.values()), list(other.values()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(itertools.starmap(same, zip(one, other, strict=True)))
    return one == other


def hooks(model: Any) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


@EVERY
def test_a_batch_that_diverges_or_is_refused_leaves_all_as_it_was(name: str, spoil: Any) -> None:
    whole, hurt = MAKE[name](llama()), MAKE[name](llama())
    for batch in BATCHES:  # before the first, and after it
        before, hung, held = state(hurt), hooks(hurt.model), list(vars(hurt))
        back = spoil(hurt)
        with pytest.raises(DivergedError, match="rate"):
            hurt.edit(BAD)
        back()
        for wrong in ([], [*BAD, Edit("a b", " ")], [BAD[0], Edit("a b", " c", "z")]):
            with pytest.raises(UserError):
                hurt.edit(wrong)
        with pytest.raises(TypeError, match=r"batch\[1\]"):
            hurt.edit([BAD[0], "a b"])
        assert list(vars(hurt)) == held
        assert hooks(hurt.model) == hung
        assert same(state(hurt), before)
        for editor in (whole, hurt):
            editor.edit(batch)
        assert same(state(hurt), state(whole))
    hurt.restore()
    plain = llama()
    assert same(dict(hurt.model.state_dict()), dict(plain.state_dict()))
    assert hooks(hurt.model) == 0
    assert torch.equal(answers(hurt.model), answers(plain))
    assert all(parameter.requires_grad for parameter in hurt.model.parameters())


def test_an_adaptor_that_diverges_by_itself_keeps_what_it_had() -> None:
    model = llama()
    adaptor = Adaptor.attach(model, AdaptorConfig(layer=1, router_width=8, rate=1e-2, steps=3))
    losses = adaptor.edit(Letters(), BATCHES[0])
    before, was = {name: value.clone() for name, value in adaptor.state_dict().items()}, answers(model)
    own, adaptor.config = adaptor.config, adaptor.config.model_copy(update={"rate": 1e30})
    with pytest.raises(DivergedError):
        adaptor.edit(Letters(), BAD)
    adaptor.config = own
    assert same(dict(adaptor.state_dict()), before)
    assert torch.equal(answers(model), was)
    twin = Adaptor.attach(llama(), own)
    assert twin.edit(Letters(), BATCHES[0]) == losses
    assert adaptor.edit(Letters(), BATCHES[1]) == twin.edit(Letters(), BATCHES[1])
    assert same(dict(adaptor.state_dict()), dict(twin.state_dict()))


def test_one_step_too_far_is_divergence_although_no_loss_shows_it() -> None:
    model = llama()
    adaptor = Adaptor.attach(model, AdaptorConfig(layer=1, router_width=8, rate=1e30, steps=1))
    with pytest.raises(DivergedError):
        adaptor.edit(Letters(), BATCHES[0])
    assert len(adaptor.experts) == 0


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (1, 0, 2)])
def test_editors_of_one_model_are_restored_in_any_order(order: tuple[int, ...]) -> None:
    model = llama()
    model.get_input_embeddings().weight.requires_grad_(False)
    weights, was = {name: value.clone() for name, value in model.state_dict().items()}, answers(model)
    trained = [parameter.requires_grad for parameter in model.parameters()]
    names = ("FT", "ROME", "conventional")  # the first two write the same matrix
    editors = [MAKE[name](model) for name in names]
    for editor in editors:
        editor.edit(BATCHES[0])
    for number in order[:-1]:
        editors[number].restore()
        assert not any(parameter.requires_grad for parameter in model.parameters())
    editors[order[-1]].restore()
    assert same(dict(model.state_dict()), weights)
    assert torch.equal(answers(model), was)
    assert [parameter.requires_grad for parameter in model.parameters()] == trained
    assert hooks(model) == 0
