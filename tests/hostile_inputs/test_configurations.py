"""Sizes of a profile and fields of configurations that cannot be: each is refused, and the message names the field."""

import json
import math
from collections.abc import Iterator

import pytest
from pydantic import ValidationError

from lib import profiles
from lib.profiles import BeaconSizes, DiffusionSizes, DistillationSizes, EditingSizes
from tests.hostile_inputs.judged import Input, all_refused
from tests.settings_walk import filled, numbers

ROOMS = {
    "diffusion": DiffusionSizes,
    "editing": EditingSizes,
    "beacons": BeaconSizes,
    "distillation": DistillationSizes,
}
WRONG = [
    "NaN",
    "Infinity",
    "-Infinity",
    "-1",
    "-0.001",
    "1e999",
    "true",
    '"5"',
    "five",
    "[]",
    "{}",
    "",
    "[[1]]",
    "9" * 5000,
]
OTHER = {
    "editing.stepps=5": "no size",
    "steps=5": "no size",
    "editing=5": "editing",
    "editing.steps.more=5": "no size",
    ".=5": "no size",
    "=": "no size",
    "==": "no size",
    "editing.steps": "editing.steps",
    "name=gpu": "no size",
    "about=more": "no size",
    "device=tpu": "device",
    "backbone_layers=0": "backbone_layers",
    "offline=1": "offline",
    "editing.dtype=float8": "dtype",
    "editing.steps=5 editing.steps=6": "set twice",
    "diffusion.sampler=ddpm": "sampler",
    "diffusion.tasks.paraphrase.window=[1.0,3]": "window",
    "diffusion.tasks.paraphrase.training_steps=0": "training_steps",
    "diffusion.tasks.no_task.training_steps=5": "no size",
    "distillation.student=[32,2]": "student",
    "distillation.on_policy=1.01": "on_policy",
    "beacons.kept=0": "kept",
    "beacons.rates=[0.1,0]": "rates",
    "diffusion.dropout=1": "dropout",
    "editing.rate=2": "rate",
    "editing.rate=0": "rate",
    'editing.runs={"0":1}': "runs",
    'editing.runs={"1":1,"1":2}': "runs",
    "editing.layer=" + "[" * 5000: "layer",
    "x" * 5000 + "=1": "no size",
}


@pytest.mark.parametrize("room", ROOMS)
def test_every_size_of_a_profile(monkeypatch: pytest.MonkeyPatch, room: str) -> None:
    assert all_refused(sizes(monkeypatch, room)) > 100


def test_what_is_no_size_and_what_a_size_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all_refused(others(monkeypatch)) == len(OTHER)


@pytest.mark.parametrize("name", profiles.PROFILES)
def test_every_profile_is_what_it_would_be_read_as(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = profiles.PROFILES[name]
    assert profiles.Profile.model_validate_json(chosen.model_dump_json(), strict=True) == chosen
    monkeypatch.setenv("REPRODUCTION_SET", 'editing.steps=7 editing.runs={"3":2} beacons.rates=[1] device=cpu')
    changed = profiles.profile(name)
    assert (changed.editing.steps, changed.editing.runs, changed.beacons.rates) == (7, {3: 2}, (1.0,))
    same = {"steps": chosen.editing.steps, "runs": chosen.editing.runs}
    assert changed.editing.model_copy(update=same) == chosen.editing
    assert changed.diffusion == chosen.diffusion


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_sizes_refuses_them_in_python_too(room: str) -> None:
    good = getattr(profiles.PROFILES["cpu"], room)
    for name, field in type(good).model_fields.items():
        if numbers(field):
            for value in (math.nan, math.inf, -1, "many", None if getattr(good, name) is not None else "x"):
                if name == "train_pairs" and value is None:
                    continue
                with pytest.raises(ValidationError, match=name):
                    type(good).model_validate(good.model_dump() | {name: filled(field.annotation, value)})


def sizes(monkeypatch: pytest.MonkeyPatch, room: str) -> Iterator[Input]:
    """Yield each wrong value of each number of a room, as the command line and a queue's children get it."""
    for name, field in ROOMS[room].model_fields.items():
        if not numbers(field):
            continue
        for value in WRONG:
            # A size that may be none at all.
            if (value == "[]" and field.default == ()) or (value == "{}" and field.default_factory is dict):
                continue
            one = f"{room}.{name}={value}"
            monkeypatch.setenv("REPRODUCTION_SET", one)
            yield Input(one[:60], lambda: profiles.profile("cpu"), (f"{room}.{name}",))
        several = json.dumps(filled(field.annotation, -1))
        if several != "-1":
            monkeypatch.setenv("REPRODUCTION_SET", f"{room}.{name}={several}".replace(" ", ""))
            yield Input(f"{room}.{name}={several}", lambda: profiles.profile("cpu"), (f"{room}.{name}",))


def others(monkeypatch: pytest.MonkeyPatch) -> Iterator[Input]:
    """Yield what names no size, names one twice, or gives one something else that it cannot be."""
    for changes, said in OTHER.items():
        monkeypatch.setenv("REPRODUCTION_SET", changes)
        yield Input(changes[:60], lambda: profiles.profile("cpu"), (said,))
