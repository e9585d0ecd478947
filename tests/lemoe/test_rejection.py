"""Rejection: who gets no expert, and that such a sequence is answered as by the unedited model, to the bit."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from lib.causal_lm import layers
from lib.errors import UserError
from lib.lemoe.adaptor import Adaptor, AdaptorConfig, Edit
from lib.lemoe.rejection import Rejection, states
from lib.lemoe.router import Router
from tests.lemoe.test_adaptor import Tokens, llama

EDITS = [[Edit("a b c", "d"), Edit("b b a c", "f g")], [Edit("e f e", "h"), Edit("f g e", "m")]]
UNRELATED = ["n o p", "o o m", "m n n", "l p"]
CONFIG = AdaptorConfig(layer=1, router_width=8, rate=1e-2, steps=5, projection="frozen", keys="mean")


def edited(**changes: object) -> tuple[nn.Module, Adaptor]:
    model = llama()
    adaptor = Adaptor.attach(model, CONFIG.model_copy(update=changes))
    for batch in EDITS:
        adaptor.edit(Tokens(), batch, UNRELATED)
    return model, adaptor


def router(count: int = 2) -> Router:
    torch.manual_seed(1)
    made = Router(6, 5, "frozen", "one")
    for _ in range(count):
        made.add()
    return made


@pytest.mark.parametrize("rejection", [{"rejection": "null"}, {"rejection": "threshold", "false_positives": 0.0}])
def test_without_expert_the_logits_are_the_unedited_ones_to_the_bit(rejection: dict[str, object]) -> None:
    model, adaptor = edited(**rejection)
    texts = [edit.prompt for batch in EDITS for edit in batch] + UNRELATED
    found = adaptor.routes(Tokens(), texts)
    if rejection["rejection"] == "threshold":
        assert found == [0, 0, 1, 1, -1, -1, -1, -1]
    assert -1 in found
    assert set(found) > {-1}
    rows = [Tokens()(text)["input_ids"] for text in texts]
    ids = torch.tensor([row + [0] * (4 - len(row)) for row in rows])
    mask = (ids != 0).long()
    for kept in (range(8), range(4, 8)):
        chosen = list(kept)
        with torch.no_grad():
            after = model(ids[chosen], attention_mask=mask[chosen]).logits
            with adaptor.off():
                before = model(ids[chosen], attention_mask=mask[chosen]).logits
        same = [torch.equal(one, two) for one, two in zip(after, before, strict=True)]
        assert same == [found[row] == -1 for row in chosen]


def test_the_null_key_is_the_mean_value_at_the_keys_length() -> None:
    made, rejection, texts = router(), Rejection("null", "anchor", 0.05, 0), torch.randn(7, 6)
    rejection.set_unrelated(texts, [])
    rejection.calibrate(made)
    mean = torch.stack([made.projections[0](text) for text in texts]).mean(0)
    lengths = [key.square().sum().sqrt().item() for key in made.keys]
    expected = mean / mean.square().sum().sqrt() * (sum(lengths) / 2)
    assert torch.allclose(rejection.null_key(), expected, atol=1e-6)
    anchors = torch.randn(50, 6)
    values = made.projections[0](anchors)
    route = made.route(anchors, null=rejection.null_key())
    for row, value in enumerate(values):
        scores = [(key @ value).item() for key in [*made.keys, rejection.null_key()]]
        best = max(range(3), key=scores.__getitem__)
        assert route.expert[row] == (best if best < 2 else -1)
        assert route.gate[row] == float(best < 2)
    assert {-1} < set(route.expert.tolist())


@pytest.mark.parametrize("measured", ["anchor", "value", "key"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_the_threshold_keeps_its_rate_of_false_positives(measured: str, share: float) -> None:
    made, rejection = router(), Rejection("threshold", measured, share, 0)
    edits, texts, fresh = torch.randn(9, 6), torch.randn(40, 6), torch.randn(30, 6)
    rejection.add_edits(edits[:4])
    rejection.add_edits(edits[4:])
    rejection.set_unrelated(texts, [])
    rejection.calibrate(made)
    served = (~rejection.rejects(made, texts)).double().mean().item()
    assert share - 1 / 40 - 1e-9 <= served <= share + 1e-9
    project = made.projections[0]
    for row, anchor in enumerate(fresh):
        found = anchor if measured == "anchor" else project(anchor)
        known = {"anchor": edits, "value": project(edits), "key": torch.stack(list(made.keys))}[measured]
        nearest = min(1 - functional.cosine_similarity(found, one, dim=0).item() for one in known)
        assert rejection.distance(made, fresh)[row].item() == pytest.approx(nearest, abs=1e-5)
        assert rejection.rejects(made, fresh)[row].item() == (nearest >= rejection.threshold)


def test_edits_themselves_are_never_turned_away_by_distance() -> None:
    for measured in ("anchor", "value"):
        _, adaptor = edited(rejection="threshold", rejection_distance=measured, projection="shared", keys="learned")
        assert -1 not in adaptor.routes(Tokens(), [edit.prompt for batch in EDITS for edit in batch])


def test_the_locality_loss_is_the_relative_square_and_lowers_the_change() -> None:
    rejection, expert = Rejection("locality_loss", "anchor", 0.05, 0), nn.Linear(4, 3)
    inputs, outputs = torch.randn(5, 4), torch.randn(5, 3)
    rejection.set_unrelated(torch.randn(2, 6), [(inputs[:2], outputs[:2]), (inputs[2:], outputs[2:])])
    expected = (2 * expert(inputs)).pow(2).sum() / outputs.pow(2).sum()
    assert rejection.loss(expert, 2.0).item() == pytest.approx(expected.item(), rel=1e-5)
    changes = []
    for weight in (0.0, 50.0):
        model, adaptor = edited(rejection="locality_loss", locality_weight=weight, steps=30)
        ids = torch.tensor([Tokens()("n o p")["input_ids"]])
        with torch.no_grad():
            after = model(ids).logits
            with adaptor.off():
                changes.append((after - model(ids).logits).abs().max().item())
    assert changes[1] < changes[0] / 2


def test_rejection_needs_unrelated_texts_and_one_space() -> None:
    adaptor = Adaptor.attach(llama(), CONFIG.model_copy(update={"rejection": "null"}))
    with pytest.raises(UserError, match="give some"):
        adaptor.edit(Tokens(), EDITS[0])
    assert len(adaptor.experts) == 0
    with pytest.raises(UserError, match="another than 'per_expert'"):
        AdaptorConfig(projection="per_expert", rejection="null")
    with pytest.raises(UserError, match="another than 'per_expert'"):
        AdaptorConfig(projection="per_expert", rejection="threshold", rejection_distance="value")
    assert AdaptorConfig(projection="per_expert", rejection="threshold").rejection_distance == "anchor"


def test_states_are_those_of_unmasked_tokens() -> None:
    model = llama()
    ids, mask = torch.tensor([[3, 4, 5], [6, 7, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    mlp = layers.block(model, 1).mlp
    inputs, outputs = states(model, 1, "feed_forward", ids, mask)
    assert inputs.shape == outputs.shape == (5, 16)
    assert torch.allclose(mlp(inputs), outputs, atol=1e-6)
    alone, _ = states(model, 1, "feed_forward", ids[1:, :2], mask[1:, :2])
    assert torch.allclose(inputs[3:], alone, atol=1e-5)
    inner, same = states(model, 1, "down", ids, mask)
    assert torch.equal(same, outputs)
    assert torch.allclose(mlp.down_proj(inner), outputs, atol=1e-6)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
