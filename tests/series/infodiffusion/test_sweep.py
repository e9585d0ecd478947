"""The sampling sweep: which walks it takes, from which noise, and that it leaves the model's own setting alone."""

import pandas as pd
import pytest

from lib.seq2seq import decoding
from lib.series.infodiffusion import cases, sweep


@pytest.mark.parametrize(("name", "walks"), [("infodiffusion", 3), ("diffuseq", 2)])
def test_every_walk_is_taken_in_all_steps_from_the_same_noise(name: str, walks: int) -> None:
    run = cases.experiment("paraphrase", name, "smoke")
    model = run.build().eval()
    config = sweep.SweepConfig(trained=run.config, steps=(1, 3), pairs=2, candidates=2)
    outputs, seconds = sweep.run(model, run, config, seed=5)
    assert len(outputs) == walks * 2 * 2 * 2
    assert len(seconds) == walks
    one = outputs[outputs["steps"] == 1].set_index(["sampler", "item", "candidate"])["text"]
    # A single step adds no noise, so all walks must agree where they start from the same x_T.
    for sampler in seconds:
        pd.testing.assert_series_equal(one[sampler], one["ddim"])
    how = run.config.decoding.model_copy(update={"candidates": 2})
    walk = model.config.sampling.model_copy(update={"steps": 3, "sampler": "ancestral"})
    texts = list(run.data.splits["test"][0][:2])
    alone = decoding.decode(
        lambda *batch: model.reverse(*batch, walk), how, run.data.vocabulary, texts, run.config.window, 5
    )
    found = outputs.query("sampler == 'ancestral' and steps == 3").sort_values(["item", "candidate"])["text"]
    assert list(found) == [text for several in alone for text in several]
