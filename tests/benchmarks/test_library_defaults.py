"""What has no released code defaults to what its record chose by the rule, and the papers' wording is `paper`."""

import json
from pathlib import Path

import pytest

from lib.api.editing import METHODS
from lib.benchmarks import library_defaults
from lib.benchmarks.library_defaults import CANDIDATES, chosen, mean

RECORD = json.loads(library_defaults.WRITTEN.read_text(encoding="utf-8"))


def means(**pairs: tuple[float, float]) -> dict[str, dict[str, float]]:
    return {name: {"Rel": rel, "Avg": average} for name, (rel, average) in pairs.items()}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (means(a=(0.2, 0.9), b=(0.9, 0.4)), "b"),  # an adaptor that learns nothing leaves all else alone
        (means(a=(0.86, 0.5), b=(0.9, 0.4)), "a"),
        (means(a=(0.9, 0.4), b=(0.9, 0.404)), "a"),  # as good as equal: nearer to the paper
        (means(a=(0.9, 0.4), b=(0.9, 0.406)), "b"),
        (means(a=(0.33, 0.55), b=(0.35, 0.36)), None),  # what learns nothing is no default
    ],
)
def test_the_rule(given: dict[str, dict[str, float]], wanted: str | None) -> None:
    assert chosen(given) == wanted


def test_the_record_is_of_these_candidates_and_its_choice_is_the_rule_s() -> None:
    assert RECORD["rule"] == library_defaults.RULE
    assert library_defaults.begun(library_defaults.WRITTEN).keys() == RECORD.keys()
    for method, found in RECORD["methods"].items():
        assert {name: row["settings"] for name, row in found["candidates"].items()} == CANDIDATES[method]
        for row in found["candidates"].values():
            assert row["mean"] == mean([row["seeds"][seed] for seed in found["judged"]])
        assert found["chosen"] == chosen({name: row["mean"] for name, row in found["candidates"].items()})


def test_a_run_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a record has is not measured again; what is of other settings is."""
    calls: list[tuple[object, ...]] = []

    def measure(method: str, settings: dict, seed: int, *_: object) -> dict[str, float]:
        calls.append((method, settings["rate"], seed))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return dict.fromkeys(("Rel", "Gen", "Loc", "Avg", "first"), float(settings["rate"] == 3e-3))

    tried = {"memoe": {"paper": {"rate": 2e-4}, "faster": {"rate": 3e-3}}}
    monkeypatch.setattr(library_defaults, "CANDIDATES", tried)
    monkeypatch.setattr(library_defaults, "measure", measure)
    monkeypatch.setattr(library_defaults, "load_causal_lm", lambda *_: (None, None))
    out = tmp_path / "record.json"
    with pytest.raises(KeyboardInterrupt):
        library_defaults.main(["--out", str(out)])
    assert json.loads(out.read_text())["methods"]["memoe"]["judged"] == ["0"]
    assert library_defaults.main(["--out", str(out)]) == 0
    assert calls[3:] == [("memoe", 2e-4, 1), ("memoe", 3e-3, 1), ("memoe", 2e-4, 2), ("memoe", 3e-3, 2)]
    assert json.loads(out.read_text())["methods"]["memoe"]["chosen"] == "faster"
    tried["memoe"]["faster"] = {"rate": 1e-3}
    assert library_defaults.main(["--out", str(out)]) == 0
    assert calls[7:] == [("memoe", 1e-3, 0), ("memoe", 1e-3, 1), ("memoe", 1e-3, 2)]


@pytest.mark.parametrize("method", list(CANDIDATES))
def test_the_defaults_are_what_was_chosen(method: str) -> None:
    settings, found = METHODS[method].settings, RECORD["methods"][method]
    wanted = CANDIDATES[method][found["chosen"] or "rate 3e-3"]
    assert {name: getattr(settings(), name) for name in wanted} == wanted
    paper = CANDIDATES[method]["paper"]
    assert {name: getattr(settings.paper(), name) for name in paper} == paper
    assert settings.paper(rate=1e-2).rate == 1e-2
