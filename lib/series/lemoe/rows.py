"""The rows of the comparison: every editing method, and how it is set and built at a profile's size."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from lib import registry
from lib.api.editing_bench import LOCATED_STEPS, MEMIT_PREFIXES, MOST_EXPERTS
from lib.editing.alphaedit import AlphaEdit, AlphaEditConfig
from lib.editing.defer import Defer, DeferConfig
from lib.editing.editor import Editor, NoEdit
from lib.editing.fine_tuning import EwcConfig, EwcFineTuning, FineTuning, FineTuningConfig
from lib.editing.grace import Grace, GraceConfig
from lib.editing.lora import LoraConfig, LoraFineTuning
from lib.editing.memit import Memit, MemitConfig
from lib.editing.mend import Mend, MendConfig
from lib.editing.rome import Rome, RomeConfig
from lib.editing.wise import Wise
from lib.editing.wise_losses import WiseConfig
from lib.lemoe.adaptor import AdaptorConfig
from lib.lemoe.conventional import Conventional, ConventionalConfig
from lib.lemoe.editor import LemoeEditor, OracleEditor
from lib.lemoe.memoe import Memoe, MemoeConfig
from lib.profiles import EditingSizes
from lib.registry import Registry
from lib.series.lemoe.workbench import Workbench
from lib.settings import Settings

Build = Callable[[Workbench, Any], Editor]
Sized = Callable[[EditingSizes], dict[str, Any]]


class NoConfig(Settings):
    """The configuration of a row that has none."""


@dataclass(frozen=True, kw_only=True)
class Row(registry.Row):
    """One row: its configuration at a profile's size, and how its editor is built.

    `settings` is the class of its configuration, `sized` what a profile's sizes set of it. `order` is how a run's edits
    are dealt to batches ("given": as they come); `at_once` takes all of them as one batch; `slow` methods cost seconds
    an edit and stop at the smaller T of the profile; `needs` names what the workbench prepares for it, "moments" or
    "unrelated". The class's defaults are what a method's authors released; a row that differs by more than a profile's
    sizes has a `named` setting of that class, where each difference stands with its reason.
    """

    settings: type[BaseModel]
    named: Callable[..., BaseModel] | None = None
    build: Build  # from a workbench and a configuration
    sized: Sized = lambda sizes: {}
    order: str = "given"
    at_once: bool = False
    slow: bool = False
    needs: tuple[str, ...] = ()

    def configure(self, sizes: EditingSizes) -> BaseModel:
        """Return the row's configuration at a profile's size."""
        return (self.named or self.settings)(**self.sized(sizes))


def plain(editor: Callable[..., Editor]) -> Build:
    """Build an editor of model, tokenizer and configuration."""
    return lambda bench, config: editor(bench.model, bench.tokenizer, config)


def with_moments(editor: Callable[..., Editor]) -> Build:
    """Build an editor that needs second moments besides."""
    return lambda bench, config: editor(bench.model, bench.tokenizer, config, bench.moments)


def wise(bench: Workbench, config: WiseConfig) -> Editor:
    """Build WISE, with the unrelated texts that its margins are set from."""
    return Wise(bench.model, bench.tokenizer, bench.unrelated_texts, config)


def lemoe(bench: Workbench, config: AdaptorConfig) -> Editor:
    """Build LEMoE without rejection."""
    return LemoeEditor(bench.model, bench.tokenizer, config, MOST_EXPERTS)


def lemoe_with_rejection(bench: Workbench, config: AdaptorConfig) -> Editor:
    """Build LEMoE with the unrelated texts that rejection is set from."""
    return LemoeEditor(bench.model, bench.tokenizer, config, MOST_EXPERTS, bench.unrelated_texts)


def lemoe_with_oracle(bench: Workbench, config: AdaptorConfig) -> Editor:
    """Build LEMoE whose router is told the batch of every edit."""
    return OracleEditor(bench.model, bench.tokenizer, config, MOST_EXPERTS)


def lemoe_settings(sizes: EditingSizes, **changes: Any) -> dict[str, Any]:
    """Return LEMoE at a profile's size; what the paper leaves open was chosen on the tuning split (notebook 3.6)."""
    chosen = {
        "layer": sizes.layer,
        "expert_width": sizes.expert_width,
        "rate": sizes.rate,
        "steps": sizes.steps,
        "projection": "frozen",
        "keys": "mean",
        "gate": "one",
        "auxiliary_weight": 0.0,
    }
    return {**chosen, **changes}


def lemoe_row(title: str, build: Build = lemoe, needs: tuple[str, ...] = (), core: bool = False, **changes: Any) -> Row:
    """Return a row of LEMoE with some settings changed; its edits are dealt in clusters."""
    return Row(
        title=title,
        core=core,
        settings=AdaptorConfig,
        sized=lambda sizes: lemoe_settings(sizes, **changes),
        build=build,
        order="kmeans",
        needs=needs,
    )


def mixture_settings(sizes: EditingSizes) -> dict[str, Any]:
    """Return what the mixtures with a router over tokens share with LEMoE at a profile's size."""
    return {"layer": sizes.layer, "expert_width": sizes.expert_width, "rate": sizes.rate, "steps": sizes.steps}


def wise_settings(sizes: EditingSizes, memories: str) -> dict[str, Any]:
    """Return WISE at a profile's size: a shard is as large as a batch of the ablations."""
    return {
        "layer": sizes.upper_layer,
        "memories": memories,
        "shard": max(1, sizes.ablation // sizes.batches),
    }


METHODS: Registry[Row] = Registry(
    "method",
    {
        "no_edit": Row(
            title="no edit",
            core=True,
            settings=NoConfig,
            build=lambda bench, config: NoEdit(bench.model, bench.tokenizer),
        ),
        "ft_last": Row(
            title="FT-L (original loss)",
            core=True,
            settings=FineTuningConfig,
            sized=lambda sizes: {"layer": sizes.upper_layer},
            build=plain(FineTuning),
        ),
        "ft": Row(
            title="FT-L (teacher forcing)",
            core=True,
            settings=FineTuningConfig,
            named=FineTuningConfig.tuned,
            sized=lambda sizes: {"layer": sizes.upper_layer},
            build=plain(FineTuning),
        ),
        "ewc": Row(
            title="FT-EWC",
            core=True,
            settings=EwcConfig,
            sized=lambda sizes: {"layer": sizes.upper_layer},
            build=plain(EwcFineTuning),
        ),
        "lora": Row(  # minutes a run, and no row of the paper's
            title="LoRA",
            settings=LoraConfig,
            named=LoraConfig.tuned,
            build=plain(LoraFineTuning),
        ),
        "rome": Row(
            title="ROME",
            settings=RomeConfig,
            named=RomeConfig.rebuilt,
            sized=lambda sizes: {"layer": sizes.located[-1], "prefixes": MEMIT_PREFIXES, "steps": LOCATED_STEPS},
            build=with_moments(Rome),
            slow=True,
            needs=("moments",),
        ),
        "memit": Row(
            title="MEMIT",
            settings=MemitConfig,
            sized=lambda sizes: {"layers": sizes.located, "steps": LOCATED_STEPS},
            build=with_moments(Memit),
            slow=True,
            needs=("moments",),
        ),
        "memit_mass": Row(
            title="MEMIT-MASS",
            settings=MemitConfig,
            sized=lambda sizes: {"layers": sizes.located, "steps": LOCATED_STEPS},
            build=with_moments(Memit),
            slow=True,
            at_once=True,
            needs=("moments",),
        ),
        "alphaedit": Row(
            title="AlphaEdit",
            settings=AlphaEditConfig,
            sized=lambda sizes: {"layers": sizes.located, "steps": LOCATED_STEPS},
            build=with_moments(AlphaEdit),
            slow=True,
            needs=("moments",),
        ),
        "mend": Row(
            title="MEND",
            core=True,
            settings=MendConfig,
            named=MendConfig.tuned,
            sized=lambda sizes: {  # the layer that others act on near the output, and those around it
                "layers": tuple(range(sizes.upper_layer - 1, sizes.upper_layer + 2)),
                "steps": sizes.mend_steps,
            },
            build=lambda bench, config: Mend(bench.model, bench.tokenizer, bench.transformation(config)),
        ),
        "defer": Row(
            title="DEFER",
            core=True,
            settings=DeferConfig,
            named=DeferConfig.tuned,
            sized=lambda sizes: {"layer": sizes.upper_layer},
            build=lambda bench, config: Defer(bench.model, bench.tokenizer, config, bench.unrelated_texts),
            needs=("unrelated",),
        ),
        "grace": Row(
            title="GRACE",
            core=True,
            settings=GraceConfig,
            named=GraceConfig.tuned,
            sized=lambda sizes: {"layer": sizes.upper_layer},
            build=plain(Grace),
        ),
        "wise": Row(
            title="WISE-Merge",
            core=True,
            settings=WiseConfig,
            named=WiseConfig.tuned,
            sized=lambda sizes: wise_settings(sizes, "merge"),
            build=wise,
            needs=("unrelated",),
        ),
        "wise_retrieve": Row(
            title="WISE-Retrieve",
            settings=WiseConfig,
            named=WiseConfig.tuned,
            sized=lambda sizes: wise_settings(sizes, "retrieve"),
            build=wise,
            needs=("unrelated",),
        ),
        "conventional": Row(
            title="conventional MoE",
            core=True,
            settings=ConventionalConfig,
            sized=mixture_settings,
            build=plain(Conventional),
        ),
        "memoe": Row(
            title="MEMoE",
            core=True,
            settings=MemoeConfig,
            sized=mixture_settings,
            build=plain(Memoe),
        ),
        "lemoe": lemoe_row("LEMoE", core=True),
        "lemoe_threshold": lemoe_row(
            "LEMoE with a threshold (ours)", lemoe_with_rejection, ("unrelated",), core=True, rejection="threshold"
        ),
    },
)
