"""Some notebooks of each series in `paper` on stand-ins; `make rehearsal` runs all of them."""

from pathlib import Path

import pytest

from lib.running import contract
from tests.rehearsal import run

LIMIT = 240  # seconds of one core that those of `make test` may take together
# Seconds of processors that `python -m tests.rehearsal.run NOTEBOOK` prints, on a busy machine. Of these
# with nothing recorded before; that of 1.2 was taken with longer sentences, so that it needs less now.
IN_TEST = {
    "1_infodiffusion/1.2_keyinfo_first": 85,
    "2_beacons/2.1_semantic_distance": 44,
    "3_lemoe/3.3_main_table": 76,
    "4_hetero_kd/4.2_main_table": 26,
}
# Of these as `make rehearsal` runs them, one after another: a notebook reads what those before it recorded.
IN_REHEARSAL: dict[str, int | None] = {  # None: it runs, and its seconds were not taken
    "0_start_here": None,
    "1_infodiffusion/1.1_noise_schedule": None,
    "1_infodiffusion/1.3_table_1": 150,
    "1_infodiffusion/1.4_ablation": 17,
    "1_infodiffusion/1.5_decoding_order": 14,
    "1_infodiffusion/1.6_sampling_steps": 17,
    "2_beacons/2.2_one_fact": 18,
    "2_beacons/2.3_many_facts": 19,
    "2_beacons/2.4_filters": 22,
    "2_beacons/2.5_reweighting": 15,
    "2_beacons/2.6_grid": 18,
    "3_lemoe/3.1_factors": None,
    "3_lemoe/3.2_method": None,
    "3_lemoe/3.4_scaling": None,
    "3_lemoe/3.5_batch_editing": None,
    "3_lemoe/3.6_ablations": None,
    "3_lemoe/3.7_cases": None,
    "4_hetero_kd/4.1_layers": None,
    "4_hetero_kd/4.3_ablations": None,
    "4_hetero_kd/4.4_heterogeneity": None,
    "4_hetero_kd/4.5_cost": None,
    "5_scorecard": 10,  # to where it reads a verdict that the notebooks before it had not written
}


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return run.stand_ins(tmp_path_factory.mktemp("rehearsal"))


@pytest.mark.xdist_group("rehearsal")
@pytest.mark.parametrize("name", IN_TEST)
def test_the_paper_profile_runs_on_stand_ins(name: str, variables: dict[str, str]) -> None:
    (book,) = contract.below([name])
    ran, _, _, told = run.rehearse(book.notebook, variables)
    assert ran, told
    assert (Path(variables["REPRODUCTION_WORK_ROOT"]) / "notebooks" / "rehearsal" / f"{name}.ipynb").is_file()


def test_every_notebook_is_rehearsed_and_those_of_make_test_fit() -> None:
    names = {book.name for book in contract.below([])}
    assert set(IN_TEST) | set(IN_REHEARSAL) == names
    assert not set(IN_TEST) & set(IN_REHEARSAL)
    assert sum(IN_TEST.values()) <= LIMIT
    assert {name[:2] for name in IN_TEST} >= {name[:2] for name in names if "/" in name}  # of each series
