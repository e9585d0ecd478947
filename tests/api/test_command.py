"""The command line: each verb end to end on tiny models, what it prints, and every wrong line told in one."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import lib.api
from lib.api import command
from lib.causal_lm.edits import Edit
from lib.errors import UserError
from lib.registry import Registry
from tests import tiny_models

WORDS = [f"w{number}" for number in range(17)]
FACTS = [{"prompt": f"w{n} w{n + 1}", "target": f"w{n + 2}"} for n in range(6)]
ROWS = [{"prompt": f"w{n % 5} w{n % 7}", "response": f"w{n % 3} w4"} for n in range(8)]
PAIRS = [{"src": f"{one} {other}", "trg": f"{other} {one}"} for one in WORDS[:4] for other in WORDS[:4]]
SIZES = ["--diffusion-steps", 8, "--sampling-steps", 3, "--width", 16, "--layers", 1, "--heads", 2, "--embedding", 8]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny models and files of every kind, right and wrong."""
    folder = tmp_path_factory.mktemp("shell")
    vocabulary = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>")
    for name, model in (("model", tiny_models.small_llama()), ("teacher", tiny_models.llama())):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    for name, given in (
        ("facts", FACTS),
        ("rows", ROWS),
        ("pairs", PAIRS),
        ("no_target", [FACTS[0], {"prompt": "w1"}]),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in given))
    (folder / "no_response.jsonl").write_text('{"prompt": "w1"}\n')
    (folder / "no_trg.jsonl").write_text('{"src": "w1"}\n')
    (folder / "nan.jsonl").write_text('{"prompt": "w1", "target": NaN}\n')
    (folder / "prompts.txt").write_text("w1 w2\n\nw5\n")
    (folder / "blank.txt").write_text("\n \n")
    for name in ("empty", "pickled", "damaged", "own_code"):
        (folder / name).mkdir()
    config = (folder / "model/config.json").read_text()
    for name in ("pickled", "damaged"):
        (folder / name / "config.json").write_text(config)
        tokenizer.save_pretrained(folder / name)
    torch.save(tiny_models.small_llama().state_dict(), folder / "pickled/pytorch_model.bin")
    (folder / "damaged/model.safetensors").write_bytes((folder / "model/model.safetensors").read_bytes()[:900])
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.Own"}}
    (folder / "own_code/config.json").write_text(json.dumps(own))
    (folder / "own_code/own.py").write_text("raise RuntimeError('code of a model was run')\n")
    (folder / "full").mkdir()
    (folder / "full/kept.txt").write_text("kept")
    return folder


class StandIn:
    """What the verbs need of an edited model: one that is as it was."""

    def __init__(self, model: object, edits: list, settings: dict) -> None:
        self.model, self.edits, self.settings = model, edits, settings

    def scores(self) -> dict[str, float]:
        return {"rel": 1.0, "gen": 0.5, "loc": float("nan")}

    def save(self, folder: Path, overwrite: bool) -> None:
        assert overwrite
        (folder / "config.json").write_text(json.dumps(self.settings))


@pytest.fixture
def editing(monkeypatch: pytest.MonkeyPatch) -> list:
    """A stand-in of `lib.api.editing`: the calls of `edit`, each with what it was given."""
    calls: list = []

    def edit(model: object, tokenizer: object, edits: list, method: str, **given: object) -> StandIn:
        print("a library's own line")
        if unknown := given.keys() - {"layer", "steps", "seed", "texts", "unrelated", "tuning", "keys"}:
            raise UserError(f"{sorted(unknown)[0]}: no setting")
        calls.append({"edits": edits, "method": method, **given})
        return StandIn(model, edits, {"method": method})

    module = ModuleType("lib.api.editing")
    told = {"title": "LEMoE", "about": "Experts.", "stores": "them", "limits": "", "defaults": "ours", "needs": ()}
    row = SimpleNamespace(**told, subject=False, settings=SimpleNamespace(model_fields={"seed": 0}))
    module.METHODS = Registry("method", {"lemoe": row})
    module.edit = edit
    module.load = lambda folder, model, tokenizer: StandIn(model, [], {})
    module.read_edits = lambda path: [Edit(one["prompt"], f" {one['target']}") for one in _rows(path)]
    monkeypatch.setitem(sys.modules, "lib.api.editing", module)
    monkeypatch.setattr(lib.api, "editing", module, raising=False)
    return calls


def _rows(path: Path) -> list[dict]:
    from lib.api import arguments

    return arguments.rows(path, "edits", '{"prompt": ..., "target": ...}')


def ran(capsys: pytest.CaptureFixture[str], *line: object) -> dict:
    """Run a line with --json: all of standard output is one document."""
    assert command.main([*map(str, line), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_edit_saves_scores_and_answers(
    place: Path, tmp_path: Path, editing: list, capsys: pytest.CaptureFixture[str]
) -> None:
    line = [
        "edit",
        place / "model",
        place / "facts.jsonl",
        "--out",
        tmp_path / "edited",
        "--test",
        place / "prompts.txt",
    ]
    line += ["--set", "steps=5", "--set", "keys=mean", "--unrelated", place / "prompts.txt", "--seed", "3"]
    told = ran(capsys, *line)
    (call,) = editing
    assert call.pop("edits")[0] == Edit("w0 w1", " w2")
    assert call == {"method": "lemoe", "steps": 5, "keys": "mean", "unrelated": ["w1 w2", "w5"], "seed": 3}
    assert told["scores"] == {"rel": 1.0, "gen": 0.5, "loc": None}  # no NaN in JSON
    assert [one["prompt"] for one in told["answers"]] == ["w1 w2", "w5"]
    assert all(one["before"] == one["after"] for one in told["answers"])
    assert (tmp_path / "edited/config.json").is_file()
    assert command.main([*map(str, line), "--overwrite"]) == 0
    captured = capsys.readouterr()
    assert "Rel 1.000  Gen 0.500  Loc -" in captured.out
    assert "a library's own line" not in captured.out
    assert "a library's own line" in captured.err


def test_ask_answers_as_the_model_does(place: Path, editing: list, capsys: pytest.CaptureFixture[str]) -> None:
    told = ran(capsys, "ask", place / "model", place, "w1 w2", "w5", "--longest", 3)
    model = tiny_models.small_llama()
    for one, ids in zip(told["answers"], ([4, 5], [8]), strict=True):
        for _ in range(3):
            with torch.no_grad():
                ids.append(model(torch.tensor([ids])).logits[0, -1].argmax().item())
        words = ["<unk>", "<s>", "</s>", *WORDS]
        said = [words[number] for number in ids[-3:] if number > 2]
        assert one["answer"].split() == said
    assert ran(capsys, "ask", place / "model", place, "--file", place / "prompts.txt", "--longest", 3) == told


def test_methods_are_listed(editing: list, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = ran(capsys, "methods")["methods"]
    assert (row["name"], row["title"], row["stores"], row["needs"]) == ("lemoe", "LEMoE", "them", [])
    command.main(["methods"])
    assert capsys.readouterr().out == "name   title  about\nlemoe  LEMoE  Experts.\n"


@pytest.mark.skipif(find_spec("lib.api.editing") is None, reason="the functions that edit are not there")
def test_the_real_methods_edit_save_and_answer(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {"lemoe", "wise", "grace", "ft"} <= {one["name"] for one in ran(capsys, "methods")["methods"]}
    (tmp_path / "edits.csv").write_text("prompt,target\nw1 w2,w7\nw3 w4,w9\n")
    line = ["edit", place / "model", tmp_path / "edits.csv", "--out", tmp_path / "edited"]
    line += ["--set", "steps=60", "--set", "rate=1e-2"]
    told = ran(capsys, *line, "--test", place / "prompts.txt", "--longest", 3)
    assert told["scores"]["rel"] == 1
    answers = ran(capsys, "ask", place / "model", tmp_path / "edited", "w1 w2", "w5", "--longest", 3)["answers"]
    assert [one["answer"] for one in answers] == [one["after"] for one in told["answers"]]


def test_a_diffusion_model_is_trained_and_writes(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train-diffusion", place / "pairs.jsonl", *SIZES, "--steps", 3, "--set", "lam=0.3"]
    told = ran(capsys, *line, "--out", tmp_path / "writer")
    assert (told["steps"], told["verb"], told["method"]) == (3, "train-diffusion", "infodiffusion")
    assert json.loads((tmp_path / "writer/config.json").read_text())["method"]["process"]["lam"] == 0.3
    found = ran(capsys, "write", tmp_path / "writer", "w1 w2", "w3", "--candidates", 2)
    assert [len(one["candidates"]) for one in found["sentences"]] == [2, 2]
    assert ran(capsys, "write", tmp_path / "writer", "w1 w2", "w3", "--candidates", 2) == found
    ran(capsys, *line, "--out", tmp_path / "same")
    ran(capsys, *line, "--out", tmp_path / "other", "--seed", 1)
    one, same, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("writer", "same", "other"))
    assert one == same != other


def test_distil_saves_a_plain_student(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["distil", place / "model", place / "teacher", place / "rows.jsonl", "--steps", 4, "--batch", 4]
    line += ["--middle", 1, "--divergence", "skewed_kl", "--set", "alpha=0.2", "--rate", "1e-2"]
    told = ran(capsys, *line, "--out", tmp_path / "student")
    assert len(told["log"]) == 4
    assert {"ce_loss", "output_loss", "middle_loss"} <= told["log"][-1].keys()
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "student")
    before = tiny_models.small_llama()
    assert not all(torch.equal(a, b) for a, b in zip(loaded.parameters(), before.parameters(), strict=True))
    assert not list((tmp_path / "student").glob("*.bin"))


def test_distances_are_told_with_what_a_filter_keeps(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["distances", place / "model", place / "facts.jsonl", "--longest", 3]
    told = ran(capsys, *line, "--keep", "0.5", "--reading", "B")
    assert [one["target"] for one in told["facts"]] == [fact["target"] for fact in FACTS]
    assert sum(one["kept"] for one in told["facts"]) == 3
    assert told["mean_distance"] == pytest.approx(sum(one["distance"] for one in told["facts"]) / 6)
    assert "kept" not in ran(capsys, *line)["facts"][0]


WRONG = [
    ("", "VERB"),
    ("frobnicate", "frobnicate"),
    ("edit", "MODEL"),
    ("edit {model} {facts}", "--out"),
    ("edit {model} {facts} --out {new} --method gpt", "lemoe"),
    ("edit {model} {facts} --out {new} --set layer", "name=value"),
    ("edit {model} {facts} --out {new} --set layer=", "layer=value"),
    ("edit {model} {facts} --out {new} --set layer=1,5", "0.5"),
    ("edit {model} {facts} --out {new} --set layer=nan", "layer"),
    ("edit {model} {facts} --out {new} --set layer=0x1f", "layer"),
    ("edit {model} {facts} --out {new} --set layer=1e999", "float"),
    ("edit {model} {facts} --out {new} --set layer=1 --set layer=2", "twice"),
    ("edit {model} {facts} --out {new} --set laier=1", "laier"),
    ("edit {model} {absent} --out {new}", "absent"),
    ("edit {model} {facts} --out {full}", "--overwrite"),
    ("edit {model} {facts} --out {facts}", "a file"),
    ("edit {model} {facts} --out {model} --overwrite", "the folder of a model"),
    ("edit {model} {facts} --out {new} --test {blank}", "no prompts"),
    ("edit {model} {nan} --out {new}", "NaN"),
    ("edit {absent} {facts} --out {new}", "no such folder"),
    ("edit {facts} {facts} --out {new}", "a file"),
    ("edit {empty} {facts} --out {new}", "config.json"),
    ("edit {pickled} {facts} --out {new}", "pickled"),
    ("edit {damaged} {facts} --out {new}", "damaged"),
    ("edit {own_code} {facts} --out {new}", "own_code"),
    ("ask {model} {full}", "no prompts"),
    ("ask {model} {absent} w1", "no such folder"),
    ("ask {model} {full} w1 --file {prompts}", "one of them"),
    ("ask {model} {full} w1 --longest 0", "--longest"),
    ("methods --jsno", "--jsno"),
    ("methods --device gpu", "--device"),
    ("methods --device cuda:99", "this machine has"),
    ("methods --threads 0", "--threads"),
    ("methods --seed -1", "--seed"),
    ("methods --seed 1e3", "1e3"),
    ("train-diffusion {no_trg} --out {new}", "trg"),
    ("train-diffusion {pairs} --out {new} --method gan", "diffuseq"),
    ("train-diffusion {pairs} --out {new} --steps 1_000", "1_000"),
    ("train-diffusion {pairs} --out {new} --rate nan", "--rate"),
    ("train-diffusion {pairs} --out {new} --rate 0", "above 0"),
    ("train-diffusion {pairs} --out {new} --set lam=9", "lam"),
    ("train-diffusion {pairs} --out {new} --set width=9", "--width"),
    ("train-diffusion {pairs} --out {new} --width 7 --heads 2", "heads"),
    ("write {full} w1", "full"),
    ("distil {model} {teacher} {no_response} --out {new}", "no_response.jsonl: row 1: response"),
    ("distil {model} {teacher} {rows} --out {new} --divergence kl", "forward_kl"),
    ("distil {model} {teacher} {rows} --out {new} --alignment kl", "per_pair"),
    ("distil {model} {teacher} {rows} --out {new} --set alpha=0.1", "alpha"),
    ("distil {model} {teacher} {rows} --out {new} --ce 0 --output 0", "weight"),
    ("distil {model} {teacher} {rows} --out {new} --pairing universal_logit", "universal_logit"),
    ("distil {model} {teacher} {rows} --out {teacher} --overwrite", "the folder of a model"),
    ("distances {model} {no_target}", "no_target.jsonl: fact 2: target"),
    ("distances {model} {facts} --keep 1.5", "--keep"),
    ("distances {model} {facts} --keep 1", "keep"),
    ("distances {model} {facts} --reading A", "--keep"),
    ("distances {model} {facts} --ruler inch", "raw"),
]


@pytest.mark.parametrize(("line", "words"), WRONG, ids=[line or "nothing" for line, _ in WRONG])
def test_a_wrong_line_is_one_line_and_exit_2(
    place: Path, tmp_path: Path, editing: list, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    names = {path.name.partition(".")[0]: path for path in place.iterdir()}
    names |= {"new": tmp_path / "new", "absent": place / "absent"}
    with pytest.raises(SystemExit) as left:
        command.run([part.format(**names) for part in line.split()])
    captured = capsys.readouterr()
    assert left.value.code == 2
    assert captured.out == ""
    *_, told = captured.err.splitlines()
    assert told.startswith("error: ")
    assert words in told
    assert "Traceback" not in captured.err
    assert (place / "full/kept.txt").read_text() == "kept"


HELPS = {
    "edit": "MODEL EDITS --method --out --set --test --json --seed --device --threads --dtype",
    "ask": "MODEL FOLDER PROMPT --file --longest --json",
    "methods": "--json",
    "train-diffusion": "PAIRS --out --steps --method --diffusion-steps --width --workspace --json --seed",
    "write": "FOLDER SENTENCE --file --candidates --steps --json --seed",
    "distil": "STUDENT TEACHER ROWS --out --output --middle --divergence --steps --pairing --cache --json",
    "distances": "MODEL FACTS --keep --reading --ruler --json",
}


@pytest.mark.parametrize("verb", HELPS)
def test_help_names_the_arguments(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command.run([verb, "--help"])
    told = capsys.readouterr().out
    assert left.value.code == 0
    assert all(name in told for name in HELPS[verb].split())
    with pytest.raises(SystemExit):
        command.run(["--help"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in HELPS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=5", 5),
        ("a=1e-3", 0.001),
        ("a=true", True),
        ("a=null", None),
        ("a=[1, 2]", [1, 2]),
        ("a=frozen", "frozen"),
        ('a="5"', "5"),
        ("a=b=c", "b=c"),
        ("a=information", "information"),
    ],
)
def test_settings_are_read_as_json_writes_them(text: str, value: object) -> None:
    from lib.api.arguments import setting

    assert setting(text) == ("a", value)
    assert type(setting(text)[1]) is type(value)


def test_threads_and_output_are_put_back(editing: list, capsys: pytest.CaptureFixture[str]) -> None:
    before = torch.get_num_threads(), sys.stdout
    ran(capsys, "methods", "--threads", before[0] + 1)
    assert (torch.get_num_threads(), sys.stdout) == before


def test_running_out_of_memory_and_interruptions_are_one_line(
    editing: list, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def raising(error: BaseException) -> Callable[[object], None]:
        def act(_: object) -> None:
            raise error

        return act

    for error, code, words in ((torch.OutOfMemoryError("5 GiB"), 2, "out of memory"), (KeyboardInterrupt(), 130, "")):
        monkeypatch.setattr(command.verbs, "methods", raising(error))
        with pytest.raises(SystemExit) as left:
            command.run(["methods"])
        captured = capsys.readouterr()
        assert (left.value.code, captured.out) == (code, "")
        assert words in captured.err
        assert len(captured.err.splitlines()) == 1


def shell_lines() -> str:
    """The lines of the section on the shell in docs/extending.md."""
    text = (Path(__file__).parents[2] / "docs/extending.md").read_text(encoding="utf-8")
    return text.partition("<!-- begin shell -->\n```\n")[2].partition("```\n<!-- end shell -->")[0]


def test_the_lines_shown_to_a_reader_are_lines_of_the_command() -> None:
    lines = [shlex.split(line, comments=True)[1:] for line in shell_lines().splitlines() if line.startswith("wang-li ")]
    verbs = {command.parser().parse_args(line).verb for line in lines}
    assert verbs == HELPS.keys()
    with pytest.raises(UserError, match="--out"):
        command.parser().parse_args(lines[0][: lines[0].index("--out")])


@pytest.mark.thorough
@pytest.mark.skipif(find_spec("lib.api.editing") is None, reason="the functions that edit are not there")
def test_the_lines_shown_to_a_reader_run(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    named = f'set -e\nwang-li() {{ "{sys.executable}" -m lib.api "$@"; }}\n'
    environment = os.environ | {"PYTHONPATH": str(root)}
    line = ["bash", "-c", named + shell_lines()]
    run = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "The capital of France is Lyon" in run.stdout


def test_a_process_keeps_its_outputs_apart(place: Path) -> None:
    line = [sys.executable, "-m", "lib.api", "distances", str(place / "model"), str(place / "facts.jsonl"), "--json"]
    run = subprocess.run([*line, "--longest", "2"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert len(json.loads(run.stdout)["facts"]) == 6
    assert run.stderr.splitlines() == [f"loading {place / 'model'}", "asking 6 facts"]  # and no bars: no terminal
