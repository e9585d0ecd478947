"""The profiles: frozen, complete in their table, and unknown ones refused."""

import pytest
from pydantic import ValidationError

from lib import profiles
from lib.errors import UserError


def test_an_unknown_profile_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="unknown profile 'gpuu': choose one of smoke, cpu, gpu, paper"):
        profiles.profile("gpuu")


def test_profiles_are_frozen_and_typed() -> None:
    chosen = profiles.profile("cpu")
    with pytest.raises(ValidationError):
        chosen.diffusion.tokens = 1
    with pytest.raises(ValidationError):
        profiles.DiffusionSizes.model_validate(chosen.diffusion.model_dump() | {"toknes": 1})


def test_the_table_shows_every_size_of_every_profile() -> None:
    table = profiles.table()
    assert list(table.columns) == ["smoke", "cpu", "gpu", "paper"]
    for task, own in profiles.profile("paper").diffusion.tasks.items():
        for name, value in own:
            assert table.loc[f"diffusion, {task}: {name}", "paper"] == str(value)
    for name in set(profiles.DiffusionSizes.model_fields) - {"tasks"}:
        value = getattr(profiles.profile("paper").diffusion, name)
        assert table.loc[f"diffusion: {name}", "paper"] == ("all" if value is None else str(value))


def test_the_paper_profile_has_the_released_settings() -> None:
    sizes = profiles.profile("paper").diffusion
    assert (sizes.diffusion_steps, sizes.rate, sizes.dropout) == (2000, 1e-4, 0.1)
    assert (sizes.tasks["paraphrase"].data, sizes.tasks["paraphrase"].training_steps) == ("QQP", 50000)
    assert (sizes.embedding, sizes.width, sizes.layers, sizes.heads, sizes.seeds) == (128, 768, 12, 12, (102,))
