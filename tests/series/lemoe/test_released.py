"""Rows of other authors in `paper`: as they were released, while other profiles keep ours."""

import pytest

from lib import profiles
from lib.editing.fine_tuning import FineTuningConfig
from lib.editing.grace import GraceConfig
from lib.editing.mend import MendConfig
from lib.editing.rome import RomeConfig
from lib.editing.wise_losses import WiseConfig
from lib.series.lemoe import released
from lib.series.lemoe.configurations import configuration
from lib.series.lemoe.rows import METHODS


def settings(row: str, profile: str) -> dict[str, object]:
    return configuration(row, "facts", 10, profile).settings.model_dump()


def test_paper_has_what_was_released_for_models_of_7_billion_parameters() -> None:
    # From EasyEdit's hparams/<method>/llama-7b.yaml, read there and not here.
    assert settings("ft_last", "paper") == FineTuningConfig(layer=21, steps=25, rate=5e-4, radius=None).model_dump()
    assert (
        settings("grace", "paper") == GraceConfig(layer=27, radius=1.0, rate=1.0, steps=50, where="last").model_dump()
    )
    wise = {"layer": 27, "density": 0.2, "shard": 500, "shards": 2, "rate": 1.0, "steps": 70, "limit": 1.0}
    margins = {"alpha": 5.0, "beta": 20.0, "gamma": 10.0, "ratio": 0.88, "kept": 0.53}
    assert settings("wise", "paper") == WiseConfig(memories="merge", **wise, **margins).model_dump()
    assert settings("wise_retrieve", "paper") == WiseConfig(memories="retrieve", **wise, **margins).model_dump()
    mend = MendConfig(layers=(29, 30, 31), matrices="all", rank=1920, rate=1e-6, edit_rate=1e-4, steps=10_000)
    assert settings("mend", "paper") == mend.model_dump()  # 100,000 updates, ten an optimiser step
    rome = {"layer": 5, "steps": 25, "rate": 0.5, "decay": 1e-3, "clamp": 4.0, "kl": 0.0625}
    texts = ((5, 10), (10, 10))
    assert settings("rome", "paper") == RomeConfig(**rome, prefixes=texts, averaged="all").model_dump()
    for row in ("memit", "memit_mass"):
        found = settings(row, "paper")
        assert found["layers"] == (4, 5, 6, 7, 8)
        assert [found[name] for name in ("steps", "decay", "clamp", "weight")] == [25, 1e-3, 4.0, 15_000.0]
    assert [settings("alphaedit", "paper")[name] for name in ("rate", "threshold", "ridge")] == [0.1, 2e-2, 10.0]
    assert [settings("defer", "paper")[name] for name in ("rate", "gate_rate", "layer")] == [7e-5, 7e-5, 27]
    assert [settings("lora", "paper")[name] for name in ("rate", "steps", "dropout")] == [5e-3, 70, 0.1]


@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu"])
def test_other_profiles_keep_ours(profile: str) -> None:
    sizes = profiles.profile(profile).editing
    for name, row in METHODS.items():
        assert released.settings(name, row, sizes) == row.configure(sizes), name
    assert settings("grace", profile)["radius"] == 5.0


def test_the_methods_of_the_series_stay_as_they_are() -> None:
    sizes = profiles.profile("paper").editing
    for name in ("lemoe", "lemoe_threshold", "memoe", "conventional", "ewc"):
        assert released.settings(name, METHODS[name], sizes) == METHODS[name].configure(sizes)
    assert set(released.SETTINGS) < set(METHODS)
