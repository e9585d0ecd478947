"""Pilots: a way means the same for both models, and what is kept is one row for each of them."""

import pytest

from lib import strict_json
from lib.series.infodiffusion import cases, pilots


@pytest.mark.parametrize("way", list(pilots.WAYS))
def test_a_way_is_the_same_for_both_models(way: str) -> None:
    one, two = (pilots.configured("question_generation", model, way, 5).config for model in cases.PAIR)
    assert one.training == two.training
    assert one.training.steps == 5
    assert one.method.shape == two.method.shape
    differ = {"schedule": two.method.process.schedule, "self_conditioning": two.method.process.self_conditioning}
    assert one.method.process.model_copy(update=differ) == two.method.process


def test_a_row_takes_the_place_of_its_like(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pilots, "FILE", tmp_path / "docs" / "pilots.json")
    row = {"task": "a", "model": "b", "way": "c", "training_steps": 5, "seed": 0, "minutes": 1.0}
    for change in ({}, {"way": "d"}, {"seed": 1}, {"minutes": 2.0}):
        pilots.keep(row | change)
    told = strict_json.parse(pilots.FILE.read_text(), "pilots")
    assert told["rows"] == [row | {"way": "d"}, row | {"seed": 1}, row | {"minutes": 2.0}]
