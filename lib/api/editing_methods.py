"""The editing methods by name: what each stores, where its settings come from, and how it is built on any model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from lib import registry
from lib.api.editing_bench import (
    LOCATED_STEPS,
    MEMIT_PREFIXES,
    MEMIT_WEIGHT,
    MEND_STEPS,
    MOST_EXPERTS,
    Bench,
    Sizes,
)
from lib.editing.alphaedit import AlphaEditConfig, ResumableAlphaEdit
from lib.editing.defer import Defer, DeferConfig
from lib.editing.editor import Editor
from lib.editing.fine_tuning import EwcConfig, EwcFineTuning, FineTuning, FineTuningConfig
from lib.editing.grace import Grace, GraceConfig
from lib.editing.lora import LoraConfig, LoraFineTuning
from lib.editing.memit import Memit, MemitConfig
from lib.editing.mend import Mend
from lib.editing.mend_network import MendConfig
from lib.editing.rome import Rome, RomeConfig
from lib.editing.wise import Wise
from lib.editing.wise_losses import WiseConfig
from lib.errors import UserError
from lib.lemoe.adaptor import AdaptorConfig
from lib.lemoe.conventional import Conventional, ConventionalConfig
from lib.lemoe.editor import LemoeEditor
from lib.lemoe.memoe import Memoe, MemoeConfig
from lib.registry import Registry
from lib.settings import Settings

__all__ = ["METHODS", "Method"]

Source = Literal["release", "ours"]
Build = Callable[[Bench], Editor]


@dataclass(frozen=True, kw_only=True)
class Method(registry.Row):
    """A method that edits: what it does, what is saved of it, its settings, and how it is built.

    `defaults` are those of its authors' release, or ours where there is none; `tuned` makes ours for small models,
    beside a release. `sized` is what the model sets of either, `tuned_sized` what it sets of the tuned ones besides.
    `needs` names what it is given besides edits: "texts", "unrelated" or "tuning". `alone`: of a batch each edit is
    learnt by itself. `in_weights`: the edited model is its weights, and nothing stands beside them.
    """

    about: str
    stores: str
    limits: str
    defaults: Source = "release"
    settings: type[Settings]
    named: Callable[..., Settings] | None = None  # the release, where it is not what the class has
    tuned: Callable[..., Settings] | None = None
    sized: Callable[[Sizes], dict[str, Any]]
    tuned_sized: Callable[[Sizes], dict[str, Any]] = lambda sizes: {}
    build: Build
    needs: tuple[str, ...] = ()
    subject: bool = False  # whether edits must name their subject
    alone: bool = False
    in_weights: bool = False

    def configure(self, sizes: Sizes, given: dict[str, Any], tuned: bool = False) -> Settings:
        """Return the settings for a model, with those `given` changed, of the release or tuned ones.

        Raises `UserError` for a setting that is wrong or unknown, and where nothing is tuned.
        """
        if tuned and self.tuned is None:
            raise UserError(f"{self.title}: has no tuned settings: leave `tuned` out")
        packed = {"packed": True} if "packed" in self.settings.model_fields else {}
        own = {**packed, **self.sized(sizes), **(self.tuned_sized(sizes) if tuned else {}), **given}
        try:
            return ((self.tuned if tuned else self.named) or self.settings)(**own)
        except ValidationError as error:
            raise UserError(f"{self.title}: {first_problem(error, self.settings)}") from error


def first_problem(error: ValidationError, settings: type[Settings]) -> str:
    """Say in one line what is wrong with settings."""
    found = error.errors()[0]
    name = ".".join(map(str, found["loc"]))
    if found["type"] == "extra_forbidden":
        return f"no setting {name!r}; choose of {', '.join(settings.model_fields)}"
    return f"{name + ': ' if name else ''}{found['msg']}"


def plain(editor: Callable[..., Editor]) -> Build:
    """Build an editor of model, tokenizer and configuration."""
    return lambda bench: editor(bench.model, bench.tokenizer, bench.config)


def with_moments(editor: Callable[..., Editor]) -> Build:
    """Build an editor that needs second moments, and prefixes that the model writes itself."""
    return lambda bench: editor(bench.model, bench.tokenizer, bench.config, bench.moments, bench.prefixes)


def wise(bench: Bench) -> Editor:
    """Build WISE."""
    return Wise(bench.model, bench.tokenizer, bench.unrelated, bench.config, bench.prefixes)  # type: ignore[arg-type]


def lemoe(bench: Bench) -> Editor:
    """Build LEMoE; unrelated texts are there where a threshold is set from them."""
    return LemoeEditor(bench.model, bench.tokenizer, bench.config, MOST_EXPERTS, bench.unrelated)


def adaptor(sizes: Sizes) -> dict[str, Any]:
    """Return what a model sets of adaptors with experts."""
    return {"layer": sizes.adaptor, "expert_width": sizes.expert_width}


def upper(sizes: Sizes) -> dict[str, Any]:
    """Return the layer of methods that act near the output."""
    return {"layer": sizes.upper}


def wise_settings(memories: str) -> Callable[[Sizes], dict[str, Any]]:
    """Return what a model sets of WISE."""
    return lambda sizes: {**upper(sizes), "memories": memories}


def first_shard(sizes: Sizes) -> dict[str, Any]:
    """Return WISE's shards as tuned: one holds the first batch, and ten edits at least."""
    return {"shard": max(10, sizes.first)}


def spread(sizes: Sizes) -> dict[str, Any]:
    """Return what a model sets of methods that write into a range of layers."""
    return {"layers": sizes.located, "steps": LOCATED_STEPS}


def mend_settings(sizes: Sizes) -> dict[str, Any]:
    """Return what a model sets of MEND: the layer near the output and those around it, and a short training."""
    return {"layers": sizes.around, "steps": MEND_STEPS}


def teacher_forcing(**settings: Any) -> FineTuningConfig:
    """Return FT-L's settings with the ordinary loss."""
    return FineTuningConfig(**{"loss": "teacher_forcing", **settings})


def rome_rebuilt(**settings: Any) -> RomeConfig:
    """Return ROME with one key throughout (R-ROME), from fewer texts."""
    return RomeConfig.rebuilt(**{"prefixes": MEMIT_PREFIXES, **settings})


def memit_tuned(**settings: Any) -> MemitConfig:
    """Return MEMIT with the weight that the tuning split prefers."""
    return MemitConfig(**{"weight": MEMIT_WEIGHT, **settings})


WEIGHT = "one changed weight matrix"
FORGETS = "later edits overwrite the same weights, and earlier ones fade"
ROUTED = "a prompt that is unlike the edit's may not be recognised, and an unrelated one may be"
METHODS: Registry[Method] = Registry(
    "method",
    {
        "ft_last": Method(
            title="FT-L (original loss)",
            about="Adam on one down projection, each weight held near its start; the last prompt token answers.",
            stores=WEIGHT,
            limits=f"targets of several tokens are hardly learnt; {FORGETS}",
            settings=FineTuningConfig,
            sized=upper,
            build=plain(FineTuning),
            in_weights=True,
        ),
        "ft": Method(
            title="FT-L (teacher forcing)",
            about="Adam on one down projection, each weight held near its start, by the language model's own loss.",
            stores=WEIGHT,
            limits=FORGETS,
            settings=FineTuningConfig,
            named=teacher_forcing,
            tuned=FineTuningConfig.tuned,
            sized=upper,
            build=plain(FineTuning),
            in_weights=True,
        ),
        "ewc": Method(
            title="FT-EWC",
            about="Fine-tuning of one down projection in which change is dear where earlier edits need the weight.",
            stores=f"{WEIGHT}, its last edits",
            limits=FORGETS,
            settings=EwcConfig,
            sized=upper,
            build=plain(EwcFineTuning),
            in_weights=True,
        ),
        "lora": Method(
            title="LoRA",
            about="One low-rank adaptor of the attention, trained further with each batch.",
            stores="A and B of every changed map",
            limits=f"unrelated answers may move; {FORGETS}",
            settings=LoraConfig,
            tuned=LoraConfig.tuned,
            sized=lambda sizes: {"modules": sizes.lora_modules},
            build=plain(LoraFineTuning),
        ),
        "rome": Method(
            title="ROME",
            about="The smallest change of one matrix that maps a subject to a new value, fact by fact (as R-ROME).",
            stores=f"{WEIGHT}, the texts of C",
            limits="needs a subject in each edit; some hundred edits in a row wear the model out",
            settings=RomeConfig,
            tuned=rome_rebuilt,
            sized=lambda sizes: {"layer": sizes.located[-1], "steps": LOCATED_STEPS},
            build=with_moments(Rome),
            needs=("texts",),
            subject=True,
            in_weights=True,
        ),
        "memit": Method(
            title="MEMIT",
            about="Closed form spread over the down projections of a range of layers, one edit after the other.",
            stores="the changed weight matrices, the texts of C",
            limits="needs a subject in each edit; many edits one by one add up to damage, see `memit_mass`",
            settings=MemitConfig,
            tuned=memit_tuned,
            sized=spread,
            build=with_moments(Memit),
            needs=("texts",),
            subject=True,
            alone=True,
            in_weights=True,
        ),
        "memit_mass": Method(
            title="MEMIT-MASS",
            about="MEMIT with all edits of a call written at once.",
            stores="the changed weight matrices, the texts of C",
            limits="needs a subject in each edit; best where all edits come in one call",
            settings=MemitConfig,
            tuned=memit_tuned,
            sized=spread,
            build=with_moments(Memit),
            needs=("texts",),
            subject=True,
            in_weights=True,
        ),
        "alphaedit": Method(
            title="AlphaEdit",
            about="MEMIT whose change leaves alone what plain text needs, and what earlier edits wrote.",
            stores="the changed weight matrices, keys of the edits, the texts of C",
            limits="needs a subject in each edit; its threshold fits GPT-J's scale",
            settings=AlphaEditConfig,
            sized=spread,
            build=with_moments(ResumableAlphaEdit),
            needs=("texts",),
            subject=True,
            in_weights=True,
        ),
        "mend": Method(
            title="MEND",
            about="One gradient step whose gradient a network transforms; the network is trained first.",
            stores="three changed weight matrices, the network",
            limits="only as good as the edits that its network was trained on",
            settings=MendConfig,
            tuned=MendConfig.tuned,
            sized=mend_settings,
            build=lambda bench: Mend(bench.model, bench.tokenizer, bench.transformation()),
            needs=("tuning",),
            in_weights=True,
        ),
        "defer": Method(
            title="DEFER",
            about="A gate that opens for edits, and a linear layer that then stands in for one down projection.",
            stores="gate and layer, keys of unrelated texts",
            limits=f"earlier batches can be forgotten; {ROUTED}",
            settings=DeferConfig,
            tuned=DeferConfig.tuned,
            sized=upper,
            build=lambda bench: Defer(bench.model, bench.tokenizer, bench.config, bench.unrelated),
            needs=("unrelated",),
        ),
        "grace": Method(
            title="GRACE",
            about="A codebook at one layer: prompts near an edit's get its value.",
            stores="key, value and radius of each edit",
            limits="rephrases are hardly ever recognised",
            settings=GraceConfig,
            tuned=GraceConfig.tuned,
            sized=upper,
            build=plain(Grace),
        ),
        "wise": Method(
            title="WISE-Merge",
            about="Edits in side memories of one matrix, merged when full; a strong activation calls them.",
            stores="the side memories, unrelated texts",
            limits=ROUTED,
            settings=WiseConfig,
            tuned=WiseConfig.tuned,
            sized=wise_settings("merge"),
            tuned_sized=first_shard,
            build=wise,
            needs=("unrelated",),
        ),
        "wise_retrieve": Method(
            title="WISE-Retrieve",
            about="WISE whose side memories stay apart; the one with the strongest activation serves.",
            stores="the side memories, unrelated texts",
            limits=f"memory grows with every shard; {ROUTED}",
            settings=WiseConfig,
            tuned=WiseConfig.tuned,
            sized=wise_settings("retrieve"),
            tuned_sized=first_shard,
            build=wise,
            needs=("unrelated",),
        ),
        "conventional": Method(
            title="conventional MoE",
            about="An expert for each batch beside one layer, chosen for each token by a router that learns on.",
            stores="experts and router",
            limits="the router forgets which expert serves earlier edits",
            defaults="ours",
            settings=ConventionalConfig,
            sized=adaptor,
            build=plain(Conventional),
        ),
        "memoe": Method(
            title="MEMoE",
            about="Four experts beside one layer, chosen for each token by its state and the prompt's entity.",
            stores="experts and router",
            limits="later batches train the same experts, and earlier edits fade; give each edit its subject",
            defaults="ours",
            settings=MemoeConfig,
            sized=adaptor,
            build=plain(Memoe),
        ),
        "lemoe": Method(
            title="LEMoE",
            about="A frozen expert for each batch beside one layer, chosen once a sequence by the words of the prompt.",
            stores="experts, keys and projection",
            limits="every prompt gets an expert, also unrelated ones (`lemoe_threshold`); 64 batches at most",
            defaults="ours",
            settings=AdaptorConfig,
            sized=adaptor,
            build=lemoe,
        ),
        "lemoe_threshold": Method(
            title="LEMoE with a threshold (ours)",
            about="LEMoE without an expert for prompts farther from every edit than unrelated texts are.",
            stores="experts, keys, projection and threshold",
            limits="a rephrase far from its edit may be refused; 64 batches at most",
            defaults="ours",
            settings=AdaptorConfig,
            sized=lambda sizes: {**adaptor(sizes), "rejection": "threshold"},
            build=lemoe,
            needs=("unrelated",),
        ),
    },
)
