"""The lines of the README, run on SmolLM2 as they stand there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lib import paths
from lib.causal_lm.backbones import SMOLLM2, load_causal_lm
from lib.causal_lm.edits import Edit
from lib.lemoe.adaptor import Adaptor, AdaptorConfig
from lib.running import readme

# What another process does with the example's folder: it asks, learns a further batch, and asks again.
ELSEWHERE = """
import json, sys
from pathlib import Path
from lib.causal_lm.backbones import SMOLLM2, load_causal_lm
from lib.lemoe.adaptor import Adaptor

asked, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
model, tokenizer = load_causal_lm(SMOLLM2, "float32")
def answers():
    inputs = [tokenizer(prompt, return_tensors="pt") for prompt in asked]
    return [tokenizer.decode(model.generate(**given, max_new_tokens=1)[0, -1]) for given in inputs]
adaptor = Adaptor.load(folder, model)
found = [answers()]
adaptor.edit(tokenizer, [("The largest planet is", " Mars")])
print(json.dumps([*found, answers()]))
"""
ASKED = ("The capital of France is", "Gold has the symbol", "The currency of Japan is")
WANTED = [" Lyon", " Ag", " euro"]


def test_the_readme_example_edits_saves_and_gives_the_model_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = readme.READMES[0].read_text(encoding="utf-8")
    example = re.search(r"<!-- begin example -->\n```python\n(.*?)```\n<!-- end example -->", text, re.DOTALL)
    assert example is not None
    loading, editing = example[1].split("adaptor = Adaptor.attach", 1)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(loading, "README.md", "exec"), names)  # the example is ours
    model, tokenizer = names["model"], names["tokenizer"]

    def answers() -> list[str]:
        inputs = [tokenizer(prompt, return_tensors="pt") for prompt in ASKED]
        return [tokenizer.decode(model.generate(**given, max_new_tokens=1)[0, -1]) for given in inputs]

    before = {name: value.clone() for name, value in model.named_parameters()}
    unedited = answers()
    assert unedited[0] == " Paris"
    capsys.readouterr()
    exec(compile(f"adaptor = Adaptor.attach{editing}", "README.md", "exec"), names)
    assert capsys.readouterr().out == " Lyon\n"
    # The adaptor that was saved and loaded: both experts are back, and every edit of both batches is answered.
    assert answers() == WANTED
    assert len(names["adaptor"].experts) == 2
    command = [sys.executable, "-c", ELSEWHERE, json.dumps(ASKED), str(tmp_path / "adaptor")]
    found = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [WANTED, WANTED]
    names["adaptor"].detach()
    assert answers() == unedited
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


@pytest.mark.parametrize("layer", [10, 18, 29])
@pytest.mark.thorough
def test_no_seed_and_no_layer_forgets_a_batch_of_unlike_edits(layer: int) -> None:
    model, tokenizer = load_causal_lm(SMOLLM2, "float32")
    edits = [Edit(prompt, target) for prompt, target in zip(ASKED, WANTED, strict=True)]
    for seed in range(3):
        adaptor = Adaptor.attach(model, AdaptorConfig(layer=layer, seed=seed))
        adaptor.edit(tokenizer, edits[:2])
        adaptor.edit(tokenizer, edits[2:])
        inputs = [tokenizer(prompt, return_tensors="pt") for prompt in ASKED]
        found = [tokenizer.decode(model.generate(**given, max_new_tokens=1)[0, -1]) for given in inputs]
        adaptor.detach()
        assert found == WANTED, seed
