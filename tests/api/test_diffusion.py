"""Diffusion on pairs of one's own: it learns a small language, is saved whole or not at all, and repeats itself."""

import json
from pathlib import Path

import pytest
import torch

from lib.api import diffusion
from lib.errors import UserError
from lib.profiles import cpu
from lib.series.infodiffusion.rows import ROWS

WORDS = ("red", "green", "blue", "white", "black")
PAIRS = [{"src": f"{one} {other}", "trg": f"{other} {one}"} for one in WORDS for other in WORDS]
TINY = {"steps": 150, "diffusion_steps": 20, "sampling_steps": 5, "width": 32, "layers": 1, "heads": 2, "embedding": 16}


@pytest.fixture(scope="module")
def writer() -> diffusion.Writer:
    return diffusion.train(PAIRS, **(TINY | {"steps": 400, "width": 64}))


def test_it_learns_to_turn_pairs_round(writer: diffusion.Writer) -> None:
    written = writer.sample([pair["src"] for pair in PAIRS])
    right = sum(one == pair["trg"] for (one,), pair in zip(written, PAIRS, strict=True))
    assert right > 12  # of 25; one in 25 by chance


@pytest.mark.parametrize("method", ["infodiffusion", "diffuseq"])
def test_equal_arguments_give_equal_weights_and_other_seeds_others(method: str) -> None:
    sizes = TINY | {"steps": 3}
    one, same, other = (diffusion.train(PAIRS, method=method, seed=seed, **sizes) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), same.model.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))
    process = one.model.config.process
    assert (process.schedule, process.self_conditioning > 0) == {
        "infodiffusion": ("information", True),
        "diffuseq": ("sqrt", False),
    }[method]


def test_the_methods_differ_in_schedule_and_self_conditioning_alone_and_are_those_of_our_tables() -> None:
    sizes = {**TINY, "steps": 1, "layers": 4, "heads": 4, "width": 256, "embedding": 128, "diffusion_steps": 200}
    table, pair = cpu.DIFFUSION.model_copy(update={"sampling_steps": 5}), {}
    for method in ("infodiffusion", "diffuseq"):
        trained = diffusion.train(PAIRS, method=method, **sizes)  # type: ignore[arg-type]  # of the two
        pair[method] = trained.model.config
        assert pair[method] == ROWS[method].configure(table, len(trained.words), trained.words.end)
    one, other = (pair[name].model_dump() for name in pair)
    assert {name for name in one["process"] if one["process"][name] != other["process"][name]} == {
        "schedule",
        "self_conditioning",
    }
    assert [one[name] for name in ("shape", "sampling", "information")] == [
        other[name] for name in ("shape", "sampling", "information")
    ]


def test_a_saved_writer_writes_the_same(writer: diffusion.Writer, tmp_path: Path) -> None:
    writer.save(tmp_path)
    loaded = diffusion.load(tmp_path)
    asked = ["red green", "blue blue"]
    assert loaded.sample(asked, 3, seed=5) == writer.sample(asked, 3, seed=5)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".json", ".md", ".safetensors"]
    writer.save(tmp_path)  # over itself


def test_a_card_tells_what_was_saved(writer: diffusion.Writer, tmp_path: Path) -> None:
    writer.save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    count = sum(value.numel() for value in writer.model.parameters())
    for told in (
        "- infodiffusion",
        "# A text diffusion model: InfoDiffusion",
        f"Parameters: {count:,}",
        "5 of 20 steps",
    ):
        assert told in card


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "README.md"])
def test_files_of_another_kind_stay(writer: diffusion.Writer, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("a language model's")
    with pytest.raises(UserError, match=f"{name}: not of a saved writer: give another folder"):
        writer.save(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "a language model's")]
    writer.save(tmp_path, overwrite=True)
    assert len(diffusion.load(tmp_path).words) == len(writer.words)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", lambda content: content[:-4] + b"\0\0\0\1"),
        ("vocabulary.json", lambda content: content.replace(b'"red"', b'"rod"')),
        ("config.json", lambda content: content[: len(content) // 2]),
        ("config.json", lambda content: content.replace(b'"embedding"', b'"embeding"')),
        ("config.json", lambda _: b"[]"),
        ("model.safetensors", None),
    ],
)
def test_a_damaged_folder_is_one_line(writer: diffusion.Writer, tmp_path: Path, name: str, damage: object) -> None:
    writer.save(tmp_path)
    if damage is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(damage((tmp_path / name).read_bytes()))  # type: ignore[operator]
    with pytest.raises(UserError) as caught:
        diffusion.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_pairs_come_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    sizes = TINY | {"steps": 2}
    one, other = (diffusion.train(given, **sizes) for given in (PAIRS, tmp_path / "pairs.jsonl"))
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))


@pytest.mark.parametrize(
    ("pairs", "named", "words"),
    [
        ([], {}, "no pairs"),
        ([{"src": "a"}], {}, "pair 1.*trg"),
        ([{"src": "a", "trg": 5}], {}, "pair 1.*trg"),
        (PAIRS, {"method": "gan"}, "infodiffusion, diffuseq"),
        (PAIRS, {"steps": 0}, "^steps is 0"),
        (PAIRS, {"steps": True}, "^steps is True"),
        (PAIRS, {"diffusion_steps": 0}, "^diffusion_steps is 0"),
        (PAIRS, {"sampling_steps": 2.5}, "^sampling_steps is 2.5"),
        (PAIRS, {"most_words": 0}, "^most_words is 0"),
        (PAIRS, {"tokens": -1}, "^tokens is -1"),
        (PAIRS, {"seed": -1}, "^seed is -1"),
        (PAIRS, {"width": 0}, "^width"),
        (PAIRS, {"width": 32, "heads": 3}, "^width is 32: give a multiple"),
        ([("red", "blue")], {}, "pair 1 is of type tuple"),
        ({"src": ["red"], "trg": ["blue"]}, {}, "pair 1 is of type str"),
        (PAIRS, {"device": "gpu"}, "cuda:1"),
        (PAIRS, {"device": "cuda:99"}, "is not there on this machine"),
        (PAIRS, {"rate": float("inf")}, "rate"),
        (PAIRS, {"lam": 9}, "lam"),
        (PAIRS, {"no_such_field": 1}, "no_such_field"),
        ([{"src": "a", "trg": "b " * 90}], {}, "widen"),
    ],
)
def test_what_cannot_be_trained_is_one_line(pairs: list[dict], named: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        diffusion.train(pairs, **(TINY | named))


@pytest.mark.parametrize(
    ("sources", "named", "words"),
    [
        ([], {}, "at least one"),
        ("red", {}, "list"),
        (["red", " "], {}, "source 2"),
        (["red"], {"steps": 21}, "T = 20"),
        (["red"], {"steps": 0}, "^steps is 0"),
        (["red"], {"steps": 2.5}, "^steps is 2.5"),
        (["red"], {"candidates": 0}, "^candidates is 0"),
        (["red"], {"seed": -1}, "^seed is -1"),
    ],
)
def test_what_cannot_be_written_is_one_line(writer: diffusion.Writer, sources: list, named: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        writer.sample(sources, **named)


def test_sources_come_in_any_iterable(writer: diffusion.Writer) -> None:
    assert writer.sample(one for one in ["red blue"]) == writer.sample(["red blue"])


def test_pairs_that_do_not_fit_are_told() -> None:
    long = [{"src": "red", "trg": "blue " * 90}]
    with pytest.warns(UserWarning, match=r"^1 of 5 pairs are left out: .* 64 at most"):
        diffusion.train([*PAIRS[:4], *long], **(TINY | {"steps": 1}))


def test_a_device_that_is_not_there_is_one_line(writer: diffusion.Writer, tmp_path: Path) -> None:
    writer.save(tmp_path)
    for device, words in (("cuda:99", "is not there on this machine"), ("gpu", "is not known")):
        with pytest.raises(UserError, match=words):
            diffusion.load(tmp_path, device)
