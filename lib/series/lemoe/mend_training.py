"""MEND's network, trained once until its validation edits say so, for all cases of the row that has it."""

from pydantic import PositiveInt

from lib import records
from lib.editing.mend import Mend, projections, shapes
from lib.editing.mend_network import Looks, MendConfig, Transformation
from lib.records import Case, Outcome
from lib.series.lemoe import drawn
from lib.series.lemoe.fact_edits import fact_edits
from lib.series.lemoe.run import bench_of
from lib.series.lemoe.workbench import BenchConfig, Workbench, workbench
from lib.settings import Settings


class TrainingConfig(Settings):
    """MEND's training on the tuning split, and how many of its edits are kept for validation."""

    settings: MendConfig
    count: PositiveInt  # edits of the split, those for validation among them
    validation: PositiveInt
    backbone: str
    layers: PositiveInt | None
    dtype: str


def train(case: Case) -> Outcome:
    """Train the network; `settled` tells whether validation stopped it, or the cap of its steps did."""
    config: TrainingConfig = case.config
    bench = workbench(config.backbone, config.layers, config.dtype, case.device, BenchConfig())
    edits, looks = fact_edits("tuning")[: config.count], Looks(config.settings.patience)
    learnt, kept = edits[config.validation :], edits[: config.validation]
    made, losses = Mend.train(bench.model, bench.tokenizer, learnt, config.settings, kept, looks)
    curve = [{"step": step, "loss": round(loss, 6)} for step, loss in looks.losses.items()]
    return Outcome(
        values={"steps": len(losses), "settled": looks.settled, "validation": curve},
        weights={"network": {name: value.detach().cpu().contiguous() for name, value in made.state_dict().items()}},
    )


def edit_and_score(case: Case) -> Outcome:
    """Compute one case on a draw of edits, with the network that the case `network` among its inputs leaves."""
    bench = bench_of(case.config.run, case.device)
    bench.give(trained(case.inputs["network"], bench))
    return drawn.edit_and_score(case)


def trained(case: Case, bench: Workbench) -> Transformation:
    """Return the network that a case of `train` leaves, on a workbench's model."""
    settings: MendConfig = case.config.settings
    made = Transformation(settings, shapes(projections(bench.model, settings.layers, settings.matrices)))
    made.load_state_dict(records.trained_weights(case, "network"))
    return made.to(bench.model.device).requires_grad_(False)
