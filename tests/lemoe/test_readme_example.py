"""The lines of the README, run on SmolLM2 as they stand there."""

import re
from pathlib import Path

import pytest
import torch

from lib.running import readme


def test_the_readme_example_edits_saves_and_gives_the_model_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = readme.READMES[0].read_text(encoding="utf-8")
    example = re.search(r"<!-- begin example -->\n```python\n(.*?)```\n<!-- end example -->", text, re.DOTALL)
    assert example is not None
    loading, editing = example[1].split("# The settings", 1)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(loading, "README.md", "exec"), names)  # the example is ours
    model, tokenizer = names["model"], names["tokenizer"]

    def answers() -> list[str]:
        asked = ("The capital of France is", "Gold has the symbol", "The currency of Japan is")
        inputs = [tokenizer(prompt, return_tensors="pt") for prompt in asked]
        return [tokenizer.decode(model.generate(**given, max_new_tokens=1)[0, -1]) for given in inputs]

    before = {name: value.clone() for name, value in model.named_parameters()}
    unedited = answers()
    assert unedited[0] == " Paris"
    capsys.readouterr()
    exec(compile(f"#{editing}", "README.md", "exec"), names)
    assert capsys.readouterr().out == " Lyon\n"
    # The adaptor that was saved and loaded: both experts are back, and every edit of both batches is answered.
    assert answers() == [" Lyon", " Ag", " euro"]
    assert len(names["adaptor"].experts) == 2
    names["adaptor"].detach()
    assert answers() == unedited
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
