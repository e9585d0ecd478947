"""The benchmark of distillation at tiny sizes: it measures every row, live and cached, and says so."""

from lib.benchmarks import distillation
from lib.series.distillation import cases


def test_the_benchmark_times_every_row_live_and_cached(tmp_path) -> None:
    found = distillation.measure("smoke", 8, 1, tmp_path)
    assert found["rows"] == 4 * 8
    assert list(found["steps"]) == [f"{cases.METHODS[method].title}, {how}" for method, how in cases.costed()]
    assert all(row["seconds"] > 0 for row in found["steps"].values())
    held = {name: row["mib"] for name, row in found["steps"].items()}
    title = cases.METHODS["ours"].title
    assert held[f"{title}, live"] > held[f"{title}, cached"] > held[f"{cases.METHODS['sft'].title}, cached"]
    text = distillation.report({"profile": "smoke", "environment": {"cpu": "a processor", "threads": 2}, **found})
    assert all(name in text for name in found["steps"])
