"""The sampling sweep: which walks it takes, from which noise, and that it leaves the model's own setting alone."""

from types import SimpleNamespace

import pandas as pd
import pytest

from lib import strict_json
from lib.seq2seq import decoding
from lib.series.infodiffusion import cases, evaluation, frames, sweep


@pytest.mark.parametrize(("name", "walks"), [("infodiffusion", 4), ("diffuseq", 3)])
def test_every_walk_is_taken_in_all_steps_from_the_same_noise(name: str, walks: int) -> None:
    run = cases.experiment("paraphrase", name, "smoke")
    model = run.build().eval()
    config = sweep.SweepConfig(trained=run.config, steps=(1, 3), pairs=2, candidates=2)
    outputs, seconds = sweep.run(model, run, config, seed=5)
    assert len(outputs) == walks * 2 * 2 * 2
    assert list(seconds) == [*sweep.SAMPLERS, sweep.CLAMPED, sweep.CARRIED][:walks]
    one = outputs[outputs["steps"] == 1].set_index(["sampler", "item", "candidate"])["text"]
    # A single step adds no noise, so those that do not clamp must agree where they start from the same x_T.
    for sampler in {"ancestral", sweep.CARRIED} & set(seconds):
        pd.testing.assert_series_equal(one[sampler], one["ddim"])
    how = run.config.decoding.model_copy(update={"candidates": 2})
    walk = model.config.sampling.model_copy(update={"steps": 3, "sampler": "ancestral", "clamp": "nearest"})
    texts = list(run.data.splits["test"][0][:2])
    alone = decoding.decode(
        lambda *batch: model.reverse(*batch, walk), how, run.data.vocabulary, texts, run.config.window, 5
    )
    found = outputs.query("sampler == 'clamped' and steps == 3").sort_values(["item", "candidate"])["text"]
    assert list(found) == [text for several in alone for text in several]


def test_temperatures_are_tried_in_the_models_own_steps_and_the_carried_e_in_few() -> None:
    run = cases.experiment("paraphrase", "infodiffusion", "smoke")
    model = run.build().eval()
    most = sweep.COMPARED_MOST + 1
    config = sweep.SweepConfig(trained=run.config, steps=(2, most), pairs=1, candidates=1, temperatures=(0.0, 1.0))
    outputs, seconds = sweep.run(model, run, config, seed=5)
    assert list(seconds[sweep.CARRIED]) == list(seconds["ancestral"]) == ["2"]
    own = model.config.sampling.steps
    assert {f"{sweep.WARM}{t}": [str(own)] for t in (0, 1)} == {
        name: list(found) for name, found in seconds.items() if name.startswith(sweep.WARM)
    }
    frames.Sampled.validate(outputs)
    config = config.model_copy(update={"steps": (own,)})
    texts = sweep.run(model, run, config, seed=5)[0].set_index("sampler")["text"]
    assert texts[f"{sweep.WARM}1"] == texts[sweep.CLAMPED]


def test_a_model_that_does_not_clamp_is_swept_so_in_all_steps() -> None:
    run = cases.experiment("paraphrase", "diffuseq", "smoke")
    model = run.build().eval()
    free = model.config.sampling.model_copy(update={"clamp": "none"})
    model.config = model.config.model_copy(update={"sampling": free})
    most = sweep.COMPARED_MOST + 1
    config = sweep.SweepConfig(trained=run.config, steps=(2, most), pairs=1, candidates=1)
    seconds = sweep.run(model, run, config, seed=5)[1]
    assert {name: list(found) for name, found in seconds.items()} == {
        "ancestral": ["2", str(most)],
        "ddim": ["2", str(most)],
        sweep.CLAMPED: ["2"],
    }


@pytest.mark.parametrize("clamp", ["none", "nearest"])
def test_claim_3_reads_the_samplers_that_a_record_walked_in_every_number_of_steps(clamp: str) -> None:
    run = cases.experiment("paraphrase", "diffuseq", "smoke")
    model = run.build().eval()
    sampling = model.config.sampling.model_copy(update={"clamp": clamp})
    model.config = model.config.model_copy(update={"sampling": sampling})
    method = run.config.method.model_copy(update={"sampling": sampling})
    config = sweep.SweepConfig(
        trained=run.config.model_copy(update={"method": method}), steps=(1, sweep.COMPARED_MOST + 1), pairs=1
    )
    seconds = sweep.run(model, run, config, seed=5)[1]
    record = SimpleNamespace(config=strict_json.parse(config.model_dump_json(), "config"))
    walked = evaluation.walked_throughout(record)
    assert set(walked) == {name for name, taken in seconds.items() if len(taken) == len(config.steps)}
