"""The ten lines of the README, run on a small model of one's own."""

import re
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lib import backbones, readme


def test_the_readme_example_edits_saves_and_gives_the_model_back(tmp_path: Path) -> None:
    text = readme.READMES[0].read_text(encoding="utf-8")
    example = re.search(r"<!-- begin example -->\n```python\n(.*?)```\n<!-- end example -->", text, re.DOTALL)
    assert example is not None
    tokenizer = backbones.load_causal_lm(backbones.SMOLLM2, torch.float32, 1)[1]
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **shape)).eval()
    before = {name: value.clone() for name, value in model.named_parameters()}
    names = {"model": model, "tokenizer": tokenizer, "layer": 1, "folder": tmp_path / "adaptor"}
    exec(compile(example[1], "README.md", "exec"), names)  # the example is ours
    # What it was saved as: both experts are back, and the answer is that of the edited model.
    asked = tokenizer("The capital of France is", return_tensors="pt")
    again = model.generate(**asked, max_new_tokens=2)
    assert torch.equal(again, names["answer"])
    assert len(names["adaptor"].experts) == 2
    names["adaptor"].detach()
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
