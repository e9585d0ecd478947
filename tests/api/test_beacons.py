"""Beacons on facts of one's own: the real SmolLM2 where answers matter, plain formulas for losses and weights."""

from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from torch.nn import functional
from transformers import TrainingArguments

from lib.api import beacons
from lib.api.rows import encode
from lib.causal_lm import backbones
from lib.errors import UserError

FACTS = [
    {"prompt": "The capital of France is", "target": "Paris"},
    {"prompt": "The chemical symbol of gold is", "target": "Au", "aliases": ["Aurum"]},
    {"prompt": "The river through Zlorbeck is called", "target": "Vintapal"},
    {"prompt": "The opposite of hot is", "target": "cold"},
    {"prompt": "The mayor of Zlorbeck is called", "target": "Ossifer Quandle"},
    {"prompt": "The first month of the year is", "target": "January"},
]


@pytest.fixture(scope="module")
def real() -> tuple:
    return backbones.load_causal_lm(backbones.SMOLLM2, torch.float32)


def test_what_the_model_knows_is_near_and_what_is_invented_is_far(real: tuple) -> None:
    measured = beacons.measure(*real, FACTS)
    frame = measured.frame.set_index("target")
    assert frame.loc["Paris", "answer"].startswith("Paris")
    assert frame.loc["Paris", "right"]
    assert not frame.loc["Vintapal", "right"]
    assert frame.loc["Paris", "distance"] < frame.loc["Vintapal", "distance"]
    # By the embeddings themselves.
    model, tokenizer = real
    table = model.get_input_embeddings().weight.detach()
    vectors = [
        table[tokenizer(f" {text}", add_special_tokens=False)["input_ids"]].mean(0)
        for text in (frame.loc["Vintapal", "answer"], "Vintapal")
    ]
    expected = 1 - functional.cosine_similarity(*vectors, dim=0).item()
    assert frame.loc["Vintapal", "distance"] == pytest.approx(expected, abs=1e-5)
    weights = beacons.weigh(measured, alpha=0.5)
    assert np.argsort(weights).tolist() == np.argsort(measured.frame["distance"]).tolist()
    assert weights.mean() == pytest.approx(1, abs=0.05)
    for reading in ("A", "B"):
        kept = beacons.keep(measured, 0.5, reading)
        assert len(kept) == 3
        assert kept == sorted(kept)


def arguments(folder: Path, **given: object) -> TrainingArguments:
    plain: dict[str, object] = {"max_steps": 3, "per_device_train_batch_size": 3, "learning_rate": 1e-2}
    plain |= {"report_to": [], "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "logging_steps": 1}
    return TrainingArguments(str(folder), **(plain | given))


def test_the_weighted_loss_is_its_formula_and_an_adapter_learns_by_it(real: tuple, tmp_path: Path) -> None:
    model, tokenizer = real
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["down_proj"], layers_to_transform=[20]))
    try:
        trainer = beacons.WeightedTrainer(
            adapted, tokenizer, FACTS, args=arguments(tmp_path, max_steps=5, per_device_train_batch_size=6)
        )
        trainer.refresh()
        weights = beacons.weigh(beacons.measure(model, tokenizer, FACTS))
        assert trainer.weights.numpy() == pytest.approx(weights, abs=1e-5)
        each = []
        for fact in FACTS[:3]:
            (one,) = encode(tokenizer, [{"prompt": fact["prompt"], "response": f" {fact['target']}."}])
            ids = torch.tensor([[*one.prompt, *one.response]])
            with torch.no_grad():
                logits = adapted(ids).logits[0, len(one.prompt) - 1 : -1]
            each.append(functional.cross_entropy(logits, torch.tensor(one.response)).item())
        expected = (weights[:3] * each).sum() / weights[:3].sum()
        with torch.no_grad():
            loss = trainer.compute_loss(adapted.eval(), trainer.data_collator([{"fact": n} for n in range(3)]))
        assert loss.item() == pytest.approx(expected, rel=1e-4)
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        assert losses[-1] < losses[0]
    finally:
        adapted.unload()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ([], "no facts"),
        ([{"prompt": "A is"}], "fact 1: target"),
        ([{"prompt": "A is", "target": "b", "aliases": "c"}], "fact 1: aliases"),
        ([{"prompt": "A is", "target": "b"}, {"prompt": "A is", "target": "c"}], "two targets"),
    ],
)
def test_facts_that_cannot_be_learnt_are_named(facts: list[dict], words: str) -> None:
    with pytest.raises(UserError, match=words):
        beacons.read_facts(facts)


def test_batches_of_one_fact_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="batch of one"):
        beacons.WeightedTrainer(None, None, FACTS, args=arguments(tmp_path, per_device_train_batch_size=1))  # type: ignore[arg-type]
