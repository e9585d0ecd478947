"""Cases of the series: budgets and arms differ in what they say they do; runs against plain loops on a tiny model."""

from collections import Counter
from copy import deepcopy
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from lib import profiles, records
from lib.beacons import facts as pools
from lib.beacons import reweighting, training
from lib.beacons.cached_facts import fact_losses, run_once
from lib.beacons.methods import METHODS, attach
from lib.causal_lm import backbones
from lib.errors import UserError
from lib.series.beacons import arms, cases, features, reading, run, workbench
from lib.series.beacons.config import GradientsConfig, RunConfig
from lib.series.beacons.rows import FILTERS, WEIGHINGS
from tests.beacons.made_facts import ADAPTER, made_facts
from tests.refusals import assert_refuses
from tests.tiny_models import Letters, llama

BASE = llama()
FACTS = tuple(made_facts())
PLAIN = RunConfig(
    method="lora", pool="invented", count=6, runs=1, steps=3, batch=2, rate=1e-2, first_layer=2, rank=2, filter="all",
    kept=1.0, variance_weight=0.0, weighing="plain", alpha=1.0, least_weight=0.1, read=6, paraphrases=1, others=0,
    text_tokens=0, answer_tokens=5, may_diverge=False, backbone="made", layers=None, dtype="float32",
)  # fmt: skip
KNOWN = pd.DataFrame(
    {"raw": [0.1, 0.9, 0.5, 0.4, 0.95, 0.2], "loss": [6.0, 1.0, 5.0, 2.0, 3.0, 4.0], "known": ["unknown"] * 6},
    index=[fact.identity for fact in FACTS],
)


@pytest.fixture
def bench(monkeypatch):
    model = deepcopy(BASE)
    monkeypatch.setattr(backbones, "load_causal_lm", lambda name, dtype, layers: (model, Letters()))
    monkeypatch.setattr(workbench, "facts", lambda pool: list(FACTS))
    monkeypatch.setattr(workbench.factbook, "passages", lambda split: ["ab cd ef", "ghi jklm", "no pq"])
    made = workbench.Workbench("made", None, "float32", "cpu")
    before = deepcopy(model.state_dict())
    yield made
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {p.requires_grad for p in model.parameters()} == {True}


def plain_loss(model: Any, fact: Any) -> torch.Tensor:
    """The mean loss of a fact's target tokens by the whole model on that fact alone."""
    before, after = (Letters()(text)["input_ids"] for text in (fact.prompt, fact.taught))
    logits = model(torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
    return functional.cross_entropy(logits, torch.tensor(after))


@cache
def all_cases(profile: str) -> dict[str, records.Case]:
    found = cases.cases(profile)
    assert len({case.name for case in found}) == len(found)
    return {case.name.removeprefix("2_beacons/"): case for case in found}


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu"])
def test_per_fact_budgets_see_each_fact_as_often_as_a_fact_alone_is(profile):
    sizes = profiles.profile(profile).beacons
    for method in cases.PAIR:
        for count in cases.counts(method, profile):
            config = cases.many(method, "per_fact", count, 0, profile).config
            epochs = (training.batches(count, config.batch, 0, epoch) for epoch in range(config.steps))
            steps = [batch for epoch in epochs for batch in epoch][: config.steps]
            seen = Counter(fact for batch in steps for fact in batch.tolist())
            assert seen == dict.fromkeys(range(count), sizes.steps)
            assert cases.many(method, "total", count, 0, profile).config.steps == sizes.steps


def test_budgets_of_equal_steps_are_one_case():
    assert cases.many("lora", "total", 10, 0, "cpu").name == cases.many("lora", "per_fact", 10, 0, "cpu").name
    assert cases.many("lora", "total", 100, 0, "cpu").name != cases.many("lora", "per_fact", 100, 0, "cpu").name


@pytest.mark.parametrize("profile", ["smoke", "cpu"])
def test_arms_differ_from_plain_training_in_their_own_settings_alone(profile):
    plain = cases.filtered("all", 0, profile).config.model_dump()
    for arm in cases.FILTERS:
        other = cases.filtered(arm, 0, profile).config.model_dump()
        changed = {name for name in plain if plain[name] != other[name]}
        assert changed == (set() if arm == "all" else {"filter", "kept", "variance_weight"})
    for arm in cases.WEIGHINGS:
        other = cases.reweighted(arm, 0, profile).config.model_dump()
        changed = {name for name in plain if plain[name] != other[name]}
        assert changed == (set() if arm == "plain" else {"weighing", "alpha", "least_weight"})
    for arm in cases.COMPARED:  # claims rest on them
        assert cases.arm_seeds(arm, profile) == profiles.profile(profile).beacons.seeds


def test_a_fact_of_the_grid_is_never_seen_less_often_than_one_of_an_arms_pool():
    seen = {}
    for count in (1, 10, 50, 100, 500):
        config = cases.grid("lora", count, 0, "cpu").config
        seen[count] = config.steps * config.batch / count
    assert seen == {1: 10, 10: 10, 50: 6, 100: 3, 500: 3}
    arm = cases.filtered("all", 0, "cpu").config
    assert arm.steps * arm.batch / arm.count == 3


def test_core_and_extended_rows():
    found = all_cases("cpu")
    core = {name for name, case in found.items() if case.row == "core"}
    assert {name.split("/")[0] for name in core} >= {"known", "alone", "many", "gradients", "filter", "reweight"}
    assert all(case.row == "core" for case in all_cases("smoke").values())
    cells = {f"grid/{method}/N{count}" for method in METHODS for count in (1, 10, 50, 100, 500)}
    assert {name for name in found if name.startswith("grid")} == {f"{c}/seed{s}" for c in cells for s in (0, 1, 2)}
    assert {f"many/lora/per_fact/N100/seed{seed}" for seed in (0, 1, 2)} <= core
    full = {name for name in core if name.startswith("many/full")}
    assert full == {"many/full/per_fact/N1/seed0", "many/full/total/N500/seed0"}
    assert not any(name.startswith("tuning") for name in core)


def test_the_backbone_is_float32_where_its_own_weights_are_trained():
    for name, case in all_cases("cpu").items():
        if isinstance(case.config, RunConfig):
            assert case.config.dtype == ("float32" if case.config.method == "full" else "bfloat16"), name


@pytest.mark.parametrize("profile", ["smoke", "cpu"])
def test_only_filters_read_the_record_of_what_is_known(profile):
    for name, case in all_cases(profile).items():
        chooses = isinstance(case.config, RunConfig) and case.config.filter != "all"
        reads = chooses or name.startswith("other_distances")  # which puts its own distances in their place
        assert list(case.inputs) == (["known"] if reads else []), name
        if chooses and name.startswith("filter"):
            assert case.inputs["known"].name == cases.known("results", profile).name
    assert {name for name, row in FILTERS.items() if row.known is arms.nothing_known} == {"all"}


def test_a_config_comes_back_from_its_json():
    for case in all_cases("smoke").values():
        assert type(case.config).model_validate(case.config.model_dump(mode="json")) == case.config


def test_configurations_refuse_what_cannot_be():
    zeros = ("variance_weight", "alpha", "paraphrases", "others", "first_layer", "read_steps")
    layered = PLAIN.model_copy(update={"layers": 4})
    tried = assert_refuses(layered, shares=("kept",), zeros=(*zeros, "text_tokens"))
    tried += assert_refuses(GradientsConfig(training=PLAIN, alone=3))
    found = all_cases("smoke")
    for name in ("alone/real/seed0", "known/facts", "base/text"):
        tried += assert_refuses(found[name].config, zeros=zeros)
    assert tried > 200
    for changed in ({"kept": 0.0}, {"paraphrases": 4}, {"dtype": "float"}, {"filter": "c"}, {"weighing": "near"}):
        with pytest.raises(ValidationError):
            RunConfig(**dict(PLAIN) | changed)
    with pytest.raises(ValidationError):
        type(found["alone/real/seed0"].config)(**dict(found["alone/real/seed0"].config) | {"read_steps": ()})


def test_what_is_known_is_read_from_the_record_with_its_classes(monkeypatch):
    known = cases.known("invented", "smoke")
    fact = pools.facts("invented")[0]
    asked = pd.DataFrame([(fact.identity, n, s, "?") for n in range(4) for s in (0, 1)])
    asked.columns = ["identity", "prompt", "sample", "answer"]
    record = SimpleNamespace(
        frames={"facts": pd.DataFrame({"identity": [fact.identity], "raw": [0.5]}), "answers": asked}
    )
    monkeypatch.setattr(records, "get", lambda case: record if case is known else None)
    found = arms.known_before(SimpleNamespace(inputs={"known": known}))
    assert found.loc[fact.identity, ["raw", "known"]].tolist() == [0.5, "unknown"]


def test_the_head_is_given_contiguous_states(bench):
    seen = []
    bench.model.get_output_embeddings().register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    ids = torch.tensor([[1, 2, 3], [3, 2, 1]])
    last = bench.model(ids, logits_to_keep=1).logits
    assert seen[0].is_contiguous()
    torch.testing.assert_close(last, bench.model(ids).logits[:, -1:])


def test_a_run_reads_all_facts_and_trains_the_kept_ones_only(bench):
    config = PLAIN.model_copy(update={"filter": "a", "kept": 0.5, "variance_weight": 0.0, "others": 2, "steps": 4})
    found = run.run(config, bench, 1, KNOWN)
    told = found.frames["facts"].set_index("identity")
    assert told.index[told["trained"]].tolist() == [FACTS[place].identity for place in (0, 3, 5)]
    assert len(told) == 6
    assert len(found.frames["answers"]) == 12
    assert len(found.frames["others"]) == 2
    assert found.frames["curve"]["step"].tolist() == [1, 2, 3, 4]
    again = run.run(config, bench, 1, KNOWN)
    for name, frame in found.frames.items():
        pd.testing.assert_frame_equal(frame, again.frames[name])
    with attach(bench.model, "lora", ADAPTER, 4, 1) as handle:
        three = [FACTS[place] for place in (0, 3, 5)]
        training.train(handle, Letters(), three, 4, 2, 1e-2, 1)
        with torch.no_grad():
            wanted = [plain_loss(bench.model, fact).item() for fact in FACTS]
    assert told["loss"].tolist() == pytest.approx(wanted, abs=1e-4)


def test_runs_take_the_next_facts_each(bench):
    found = run.run(PLAIN.model_copy(update={"count": 2, "runs": 3, "read": 1}), bench, 0, None)
    assert found.frames["facts"]["identity"].tolist() == [FACTS[place].identity for place in (0, 2, 4)]
    assert found.frames["facts"]["run"].tolist() == [0, 1, 2]
    with pytest.raises(UserError, match="8 facts are needed"):
        run.run(PLAIN.model_copy(update={"count": 2, "runs": 4}), bench, 0, None)


@pytest.mark.filterwarnings("ignore:LlamaForCausalLM. layer 2 cannot be cached")  # NaN is not equal to itself
def test_a_rate_that_diverges_fails_or_is_told(bench):
    config = PLAIN.model_copy(update={"rate": 1e30})
    with pytest.raises(training.DivergedError):
        run.run(config, bench, 0, None)
    found = run.run(config.model_copy(update={"may_diverge": True}), bench, 0, None)
    assert found.values["diverged"]
    assert len(found.frames["curve"]) == 0
    assert len(found.frames["facts"]) == 6


@pytest.mark.parametrize("arm", ["a", "b", "random", "lowest_loss", "half_known", "reversed"])
def test_every_filter_keeps_half_and_chooses_by_what_is_known(bench, arm):
    config = PLAIN.model_copy(update={"filter": arm, "kept": 0.5, "variance_weight": 0.0})
    places = FILTERS[arm].keep(arms.Candidates(config, bench, FACTS, KNOWN, 0)).places.tolist()
    assert len(set(places)) == 3
    wanted = {"a": [0, 3, 5], "b": [0, 3, 5], "reversed": [1, 2, 4], "lowest_loss": [1, 3, 4], "half_known": [0, 1, 2]}
    assert places == wanted.get(arm, places)
    with pytest.raises(ValueError, match="what is known"):
        FILTERS[arm].keep(arms.Candidates(config, bench, FACTS, None, 0))


@pytest.mark.parametrize("arm", ["all", "lowest_loss"])
def test_arms_that_share_a_run_of_the_lower_layers_learn_as_if_each_ran_its_own(bench, arm):
    config = PLAIN.model_copy(update={"filter": arm, "kept": 0.5})
    told = run.run(config, bench, 0, KNOWN)
    taken = [fact for fact in FACTS if arm == "all" or KNOWN["loss"][fact.identity] in (1.0, 2.0, 3.0)]
    with attach(bench.model, "lora", ADAPTER, 3, 0) as handle:
        losses = training.train(handle, Letters(), taken, 3, 2, config.rate, 0)
        once = bench.once(FACTS, 2, True)
        after = [fact_losses(run_once(handle.model, Letters(), [fact], 0, False)).item() for fact in FACTS]
        assert reading.losses(once, 4) == pytest.approx(after[:4], rel=1e-5)
    assert told.frames["curve"]["loss"].tolist() == pytest.approx(losses, rel=1e-5)
    assert told.frames["facts"]["loss"].tolist() == pytest.approx(after, rel=1e-5)


def test_weights_of_the_arms(bench):
    def weighted(**changes):
        config = PLAIN.model_copy(update=changes)
        return WEIGHINGS[config.weighing].loss(arms.Learnt(config, bench, FACTS, bench.once(FACTS, 2, True), 0))

    def found(arm):
        with attach(bench.model, "lora", ADAPTER, 3, 0) as handle:
            return weighted(weighing=arm).weights(handle)

    assert weighted() is None
    plain, flipped, permuted = found("distance"), found("flipped"), found("permuted")
    assert plain.std() > 0.1
    assert torch.equal(permuted, plain[reweighting.permutation(6, 0)])
    unclipped = (plain > 0.1) & (flipped > 0.1)
    assert (plain + flipped)[unclipped].tolist() == pytest.approx([2.0] * int(unclipped.sum()), abs=1e-5)
    tokens = found("token")
    assert tokens.shape == (6, 5)  # the longest target and its full stop
    assert (tokens > 0).sum(1).tolist() == [len(Letters()(fact.taught)["input_ids"]) for fact in FACTS]
    with pytest.raises(UserError, match="one fact"):
        weighted(weighing="distance", batch=5)


def test_guesses_are_those_of_the_whole_model_on_each_fact(bench):
    with attach(bench.model, "lora", ADAPTER, 3, 0) as handle:
        found, mask = arms.guessed(bench, bench.once(FACTS, handle.first_layer, handle.caches))
    table = BASE.get_input_embeddings().weight
    for row, fact in enumerate(FACTS):
        before, after = (Letters()(text)["input_ids"] for text in (fact.prompt, fact.taught))
        with torch.no_grad():
            guesses = BASE(torch.tensor([before + after])).logits[0, len(before) - 1 : -1].argmax(-1)
        wanted = 1 - functional.cosine_similarity(table[guesses], table[torch.tensor(after)])
        assert found[row][mask[row]].tolist() == pytest.approx(wanted.tolist(), abs=1e-5)


def test_perplexity_of_text_by_one_passage_at_a_time(bench):
    halves = [workbench.factbook.halves(text) for text in ("ab cd ef", "ghi jklm")]
    with attach(bench.model, "lora", ADAPTER, 3, 0) as handle:
        found = reading.perplexity(bench, 5, handle.first_layer, handle.caches)
    ids = [[Letters()(part)["input_ids"] for part in pair] for pair in halves]
    nats = []
    for before, after in ids:
        with torch.no_grad():
            logits = BASE(torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
        nats += functional.cross_entropy(logits, torch.tensor(after), reduction="none").tolist()
    assert found == pytest.approx(np.exp(np.mean(nats)), rel=1e-4)


@pytest.mark.parametrize("wrong", [1e5, float("nan"), float("inf")])
def test_a_perplexity_that_no_number_tells_is_refused(bench, monkeypatch, wrong):
    part = SimpleNamespace(losses=lambda: (torch.tensor([wrong]),))
    monkeypatch.setattr(reading, "chunks", lambda text, size: [(None, part)])
    with pytest.raises(ValueError, match="weights are broken"):
        reading.perplexity(bench, 5, 2, True)


def test_directions_against_one_fact_at_a_time(bench):
    frame, shifts = features.directions(PLAIN, bench, FACTS, 3, seed=0)
    assert len(frame) == 15
    base = torch.stack([state(BASE, fact) for fact in FACTS])
    with attach(bench.model, "lora", ADAPTER, 3, 0) as handle:
        gradients = []
        for fact in FACTS:
            parts = torch.autograd.grad(plain_loss(bench.model, fact), handle.parameters())
            gradients.append(torch.cat([part.reshape(-1) for part in parts]))
        training.train(handle, Letters(), FACTS, 3, 2, 1e-2, 0)
        together = torch.stack([state(bench.model, fact) for fact in FACTS])
    pairs = zip(frame["one"], frame["other"], strict=True)
    wanted = [functional.cosine_similarity(gradients[a], gradients[b], dim=0).item() for a, b in pairs]
    assert frame["before"].tolist() == pytest.approx(wanted, abs=1e-4)
    assert not np.allclose(frame["after"], frame["before"], atol=1e-3)
    assert torch.allclose(shifts["together"], together - base, atol=1e-4)
    with attach(bench.model, "lora", ADAPTER, 3, 0) as handle:
        training.train(handle, Letters(), FACTS[3:4], 3, 1, 1e-2, 0)
        assert torch.allclose(shifts["alone"][3], state(bench.model, FACTS[3]) - base[3], atol=1e-4)


@torch.no_grad()
def state(model: Any, fact: Any) -> torch.Tensor:
    ids = torch.tensor([Letters()(fact.prompt)["input_ids"]])
    return model.base_model(ids).last_hidden_state[0, -1]
