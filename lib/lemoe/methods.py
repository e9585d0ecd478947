"""The rows of the comparison in one registry: every editing method, and how it is set and built at a profile's size."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from lib import backbones
from lib.editing import moments
from lib.editing.alphaedit import AlphaEdit, AlphaEditConfig
from lib.editing.defer import Defer, DeferConfig
from lib.editing.editor import Editor, NoEdit
from lib.editing.fact_edits import fact_edits
from lib.editing.fine_tuning import EwcConfig, EwcFineTuning, FineTuning, FineTuningConfig
from lib.editing.grace import Grace, GraceConfig
from lib.editing.lora import LoraConfig, LoraFineTuning
from lib.editing.memit import Memit, MemitConfig
from lib.editing.mend import Mend, MendConfig, Transformation
from lib.editing.rome import Rome, RomeConfig
from lib.editing.wise import Wise, WiseConfig
from lib.lemoe.adaptor import AdaptorConfig
from lib.lemoe.conventional import Conventional, ConventionalConfig
from lib.lemoe.editor import LemoeEditor
from lib.lemoe.memoe import Memoe, MemoeConfig
from lib.profiles import EditingSizes
from lib.text import factbook

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class NoConfig(BaseModel):
    """The configuration of a row that has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Workbench:
    """A loaded backbone, and what some methods need besides edits; each part is made when it is first asked for."""

    def __init__(self, backbone: str, layers: int | None, device: str, sizes: EditingSizes) -> None:
        """Load the backbone in the profile's precision; `UserError` when it cannot be had."""
        model, self.tokenizer = backbones.load_causal_lm(backbone, sizes.dtype, layers)
        self.model: PreTrainedModel = model.to(device)
        self.sizes = sizes
        self._transformations: dict[str, Transformation] = {}

    @cached_property
    def moments(self) -> dict[int, Tensor]:
        """Return C of the located layers, from passages on countries that no other text of the series is about."""
        texts = factbook.passages("moments")
        return moments.second_moments(self.model, self.tokenizer, texts, self.sizes.located, self.sizes.moment_tokens)

    @cached_property
    def unrelated(self) -> list[str]:
        """Return texts that have nothing to do with the edits: openings of passages and tuning locality prompts."""
        passages = [factbook.halves(text)[0] for text in factbook.passages("unrelated")]
        prompts = list(dict.fromkeys(edit.locality[0] for edit in fact_edits("tuning") if edit.locality))
        # Half and half: prose alone lies so far from any edit that a threshold set on it would let every question in.
        half = self.sizes.unrelated // 2
        return prompts[:half] + passages[: self.sizes.unrelated - min(half, len(prompts))]

    def transformation(self, config: MendConfig) -> Transformation:
        """Return MEND's transformation, trained on the tuning split once for each configuration."""
        key = config.model_dump_json()
        if key not in self._transformations:
            self._transformations[key] = Mend.train(self.model, self.tokenizer, fact_edits("tuning"), config)[0]
        return self._transformations[key]


Builder = Callable[[Workbench, Any], Editor]


@dataclass(frozen=True)
class Row:
    """One row: its name, its title for readers, its configuration at a profile's size, and how its editor is built.

    `order` is how a run's edits are dealt to batches ("given": as they come); `at_once` takes all of them as one batch;
    `slow` methods cost seconds an edit and stop at the smaller T of the profile; rows that are not `core` are computed
    on request.
    """

    name: str
    title: str
    configure: Callable[[EditingSizes], BaseModel]
    build: Builder  # from a workbench and a configuration
    order: str = "given"
    at_once: bool = False
    slow: bool = False
    ours: bool = False
    core: bool = True


def _plain(name: str, title: str, editor: Any, configure: Callable[[EditingSizes], BaseModel], **kind: Any) -> Row:
    """Return a row whose editor takes model, tokenizer and configuration."""
    return Row(name, title, configure, lambda bench, config: editor(bench.model, bench.tokenizer, config), **kind)


def _located(name: str, title: str, editor: Any, configure: Callable[[EditingSizes], BaseModel], **kind: Any) -> Row:
    """Return a row whose editor needs second moments besides."""

    def build(bench: Workbench, config: BaseModel) -> Editor:
        return editor(bench.model, bench.tokenizer, config, bench.moments)

    return Row(name, title, configure, build, slow=True, **kind)


def _unrelated(
    name: str, title: str, editor: Any, configure: Callable[[EditingSizes], BaseModel], core: bool = True
) -> Row:
    """Return a row whose editor needs unrelated texts besides."""

    def build(bench: Workbench, config: BaseModel) -> Editor:
        texts = bench.unrelated
        if editor is Wise:
            return Wise(bench.model, bench.tokenizer, texts, config)
        return Defer(bench.model, bench.tokenizer, config, texts)

    return Row(name, title, configure, build, core=core)


def lemoe_config(sizes: EditingSizes, **changes: Any) -> AdaptorConfig:
    """Return LEMoE at a profile's size; what the paper leaves open was chosen on the tuning split (notebook 3.6)."""
    chosen = {
        "layer": sizes.layer,
        "expert_width": sizes.expert_width,
        "rate": sizes.rate,
        "steps": sizes.steps,
        "projection": "frozen",
        "keys": "mean",
        "gate": "one",
        "auxiliary": 0.0,
    }
    return AdaptorConfig(**{**chosen, **changes})


def lemoe_row(
    name: str,
    title: str,
    order: str = "kmeans",
    ours: bool = False,
    editor: type[LemoeEditor] = LemoeEditor,
    **changes: Any,
) -> Row:
    """Return LEMoE with some settings changed."""

    def build(bench: Workbench, config: AdaptorConfig) -> Editor:
        unrelated = bench.unrelated if config.way_out else ()
        return editor(bench.model, bench.tokenizer, config, most=64, unrelated=unrelated)

    return Row(name, title, lambda sizes: lemoe_config(sizes, **changes), build, order=order, ours=ours)


def _mend(bench: Workbench, config: MendConfig) -> Editor:
    return Mend(bench.model, bench.tokenizer, bench.transformation(config))


_MEMIT_PREFIXES = ((10, 5),)
_ROWS = (
    Row("no_edit", "no edit", lambda sizes: NoConfig(), lambda bench, config: NoEdit(bench.model, bench.tokenizer)),
    _plain("ft_last", "FT-L (original loss)", FineTuning, lambda sizes: FineTuningConfig(layer=sizes.upper_layer)),
    _plain(
        "ft",
        "FT-L (teacher forcing)",
        FineTuning,
        lambda sizes: FineTuningConfig(layer=sizes.upper_layer, loss="teacher_forcing", radius=2e-2),
    ),
    _plain("ewc", "FT-EWC", EwcFineTuning, lambda sizes: EwcConfig(layer=sizes.upper_layer)),
    _plain("lora", "LoRA", LoraFineTuning, lambda sizes: LoraConfig(rate=5e-4)),
    _located(
        "rome", "ROME", Rome, lambda sizes: RomeConfig(layer=sizes.located[-1], prefixes=_MEMIT_PREFIXES, steps=20)
    ),
    _located("memit", "MEMIT", Memit, lambda sizes: MemitConfig(layers=sizes.located, steps=20)),
    _located(
        "memit_mass", "MEMIT-MASS", Memit, lambda sizes: MemitConfig(layers=sizes.located, steps=20), at_once=True
    ),
    _located("alphaedit", "AlphaEdit", AlphaEdit, lambda sizes: AlphaEditConfig(layers=sizes.located, steps=20)),
    Row(
        "mend",
        "MEND",
        lambda sizes: MendConfig(layers=_last(sizes), rank=256, steps=sizes.mend_steps, rate=1e-4),
        _mend,
    ),
    _unrelated("defer", "DEFER", Defer, lambda sizes: DeferConfig(layer=sizes.upper_layer)),
    _plain("grace", "GRACE", Grace, lambda sizes: GraceConfig(layer=sizes.upper_layer, radius=5.0)),
    _unrelated("wise", "WISE-Merge", Wise, lambda sizes: _wise(sizes, "merge")),
    _unrelated("wise_retrieve", "WISE-Retrieve", Wise, lambda sizes: _wise(sizes, "retrieve"), core=False),
    _plain("conventional", "conventional MoE", Conventional, lambda sizes: ConventionalConfig(**_mixture(sizes))),
    _plain("memoe", "MEMoE", Memoe, lambda sizes: MemoeConfig(**_mixture(sizes))),
    lemoe_row("lemoe", "LEMoE"),
    lemoe_row("lemoe_threshold", "LEMoE with a threshold (ours)", ours=True, way_out="threshold"),
)
METHODS: dict[str, Row] = {row.name: row for row in _ROWS}


def _last(sizes: EditingSizes) -> tuple[int, ...]:
    """Return the layers that MEND changes: the one that others act on near the output, and those around it."""
    return tuple(range(sizes.upper_layer - 1, sizes.upper_layer + 2))


def _mixture(sizes: EditingSizes) -> dict[str, Any]:
    chosen = ("layer", "expert_width", "rate", "steps")
    return {key: getattr(sizes, key) for key in chosen}


def _wise(sizes: EditingSizes, memories: str) -> WiseConfig:
    return WiseConfig(
        layer=sizes.upper_layer,
        memories=memories,
        shard=max(1, sizes.ablation // sizes.batches),
        optimiser="adam",
        rate=1e-2,
        together=10,
    )
