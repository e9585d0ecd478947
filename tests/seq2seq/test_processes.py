"""Several processes: their shares make up a batch, and two on a CPU train as one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lib.causal_lm import processes
from lib.seq2seq import draws

ROOT = Path(__file__).parents[2]


def member(rank: int, count: int) -> processes.Team:
    found = processes.Team()
    found.rank, found.count = rank, count
    return found


@pytest.mark.parametrize(("sentences", "count"), [(8, 2), (7, 2), (7, 3), (3, 3), (2, 3), (1, 4)])
def test_the_weighted_mean_over_the_portions_is_that_of_the_batch(sentences: int, count: int) -> None:
    losses = torch.rand(sentences)
    portions = [member(rank, count).portion(sentences) for rank in range(count)]
    means = [p.weight * losses[p.rows].sum() / sentences for p in portions]
    assert torch.stack(means).mean().item() == pytest.approx(losses.mean().item())
    told = torch.cat([losses[p.rows] for p in portions if p.seen])
    assert torch.equal(told, losses)  # each once, in order


def test_a_part_has_the_draws_that_its_sentences_have_in_the_batch() -> None:
    def stream() -> torch.Generator:
        return draws.stream("cpu", "a test", 1, 2)

    for draw in (draws.normal, draws.uniform):
        whole = draw((7, 3, 2), stream())
        for rows in (slice(0, 3), slice(3, 7)):
            part = draws.Part(stream(), rows, 7)
            assert torch.equal(draw((rows.stop - rows.start, 3, 2), part), whole[rows])
    assert draws.uniform((), stream()) == draws.uniform((), draws.Part(stream(), slice(3, 7), 7))


@pytest.mark.thorough
def test_one_process_never_loads_accelerate() -> None:
    code = (
        "import sys; from lib.causal_lm import processes; assert type(processes.team('cpu')) is processes.Team;"
        "assert 'accelerate' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def launch(count: int, folder: Path, steps: int, **config: object) -> None:
    """Train the diffusion model of `test_training` in `count` processes, as `torchrun` starts them."""
    code = (
        "import os, sys; from pathlib import Path; import torch\n"
        "sys.path.insert(0, sys.argv[1]); from tests.seq2seq import test_training as test\n"
        "from lib.seq2seq import training\n"
        "folder, steps, config = Path(sys.argv[2]), int(sys.argv[3]), eval(sys.argv[4])\n"
        "stop, seen, once = config.pop('stop', None), [], training.advance\n"
        "def advance(*given):\n"
        "    if len(seen) == stop:\n"
        "        sys.exit(0)\n"
        "    seen.append(once(*given))\n"
        "    return seen[-1]\n"
        "training.advance = advance\n"
        "found = test.memory_saving(steps, workspace=folder / 'state', **config)\n"
        "told = seen, found.model.state_dict(), found.curve\n"
        "torch.save(told, folder / f\"{os.environ.get('RANK', '0')}.pt\")\n"
    )
    (folder / "run.py").write_text(code, "utf-8")
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"] if count > 1 else []
    command = [sys.executable, *start, str(folder / "run.py"), str(ROOT), str(folder), str(steps), repr(config)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.thorough
def test_two_processes_have_the_losses_and_weights_of_one_also_resumed(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, count in ((one, 1), (two, 2)):
        folder.mkdir()
        # The batch is that of all processes together: each of two has half of it, which passes in parts.
        launch(count, folder, 14, micro_tokens=60)
    losses, weights, curve = torch.load(one / "0.pt")
    assert len(losses) == 14
    for rank in range(2):
        found, theirs, told = torch.load(two / f"{rank}.pt")
        for mine, other in zip(losses, found, strict=True):
            assert other == pytest.approx(mine, rel=1e-6, abs=1e-6)
        assert told[-1] == pytest.approx(curve[-1], rel=1e-6, abs=1e-6)
        for name, value in weights.items():  # the history of losses and its counts among them
            assert torch.allclose(theirs[name].float(), value.float(), rtol=1e-5, atol=1e-6), name
    assert weights["timesteps.count"].sum() > 50
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    launch(2, resumed, 14, micro_tokens=60, stop=9)  # saved after 5
    launch(2, resumed, 14, micro_tokens=60)
    found, theirs, _ = torch.load(resumed / "1.pt")
    assert len(found) == 9  # from the sixth step on
    _, straight, _ = torch.load(two / "1.pt")
    assert all(torch.equal(value, straight[name]) for name, value in theirs.items())
