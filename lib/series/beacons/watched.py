"""One fact learnt here and now, as a record learnt it among many: what the model answers after every few updates."""

from typing import TYPE_CHECKING

import pandas as pd

from lib import records
from lib.beacons import answers, distance
from lib.beacons.batched_lora import Group, train_alone
from lib.beacons.facts import BeaconFact
from lib.series.beacons import evaluation, pushing
from lib.series.beacons.config import AloneConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def passing(record: records.Record) -> BeaconFact:
    """Return the fact of a record of facts alone that was pushed away at most readings and is right at the end.

    Of equal ones the first; the first fact of all where none was pushed.
    """
    frame = pushing.trajectories(record)
    found = pushing.by_fact(frame)
    often = frame.groupby("identity", sort=False)["pushed"].sum()[found.index] * (found["ever"] & found["right"])
    return evaluation.taught(record)[str(often.idxmax())]


def learn(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", fact: BeaconFact, config: AloneConfig, seed: int
) -> pd.DataFrame:
    """Train a fresh adapter of one fact and return a row per reading: step, answer, d, loss, right, pushed.

    The model answers as before afterwards. d is the distance of the answer to the target by the series' ruler, the loss
    in nats a target token.
    """
    ruler, rows = distance.raw(model, tokenizer), []

    def read(step: int, group: Group) -> None:
        if step in config.read_steps:
            said = answers.greedy(model, tokenizer, [fact.prompt], config.answer_tokens)[0]
            apart = distance.distance(ruler, [said], [fact.target]).item()
            rows.append({"step": step, "answer": said, "d": apart, "right": answers.is_right(said, fact)})

    losses = train_alone(model, tokenizer, [fact], config.steps, config.rate, config.adapter, seed, read)[0]
    frame = pd.DataFrame(rows)
    frame["loss"] = [float(losses[step]) if step < len(losses) else float("nan") for step in frame["step"]]
    return frame.assign(pushed=pushing.is_pushed(frame["d"], frame["d"].iloc[0], frame["right"]))
