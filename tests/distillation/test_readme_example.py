"""The distillation loss of the README, on small models of one's own: two depths, two widths, two kinds of blocks."""

import re

import torch
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from lib.running import readme

VOCABULARY = 40


def models() -> tuple[GPT2LMHeadModel, LlamaForCausalLM]:
    torch.manual_seed(0)
    small = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "bos_token_id": 1, "eos_token_id": 2}
    student = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, **small))
    large = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 5, "num_attention_heads": 2}
    teacher = LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, initializer_range=0.3, **large)).eval()
    return student, teacher


def test_the_readme_example_is_the_loss_that_it_says_and_a_student_learns_by_it() -> None:
    text = readme.READMES[0].read_text(encoding="utf-8")
    example = re.search(
        r"<!-- begin distillation example -->\n```python\n(.*?)```\n<!-- end distillation example -->", text, re.DOTALL
    )
    assert example is not None
    code = compile(example[1], "README.md", "exec")  # the example is ours
    student, teacher = models()
    ids = torch.randint(3, VOCABULARY, (4, 10))
    places = torch.zeros(4, 10, dtype=torch.bool)
    places[:, 4:9] = True
    names = {"torch": torch, "student": student, "teacher": teacher, "ids": ids, "places": places}
    names |= {"student_width": 16, "teacher_width": 24}
    exec(code, names)

    # The same from transformers' own hidden states (none of these is the last one, which follows the final norm).
    ours, theirs = (model(ids, output_hidden_states=True) for model in (student, teacher))
    assert names["layers"] == {1: 3, 2: 5}
    p, q = (out.logits[places].softmax(-1) for out in (theirs, ours))
    expected = (p * (p / (0.1 * p + 0.9 * q)).log()).sum(-1).mean()
    middle = names["middle"].total / names["middle"].count
    torch.testing.assert_close(names["loss"], expected + middle)
    one = names["module"](1, functional.layer_norm(ours.hidden_states[1][places], (16,)))
    other = functional.layer_norm(theirs.hidden_states[3][places], (24,))
    first = 1 - functional.cosine_similarity(one, other).mean()
    before_norm = names["theirs"][5]
    torch.testing.assert_close(teacher.model.norm(before_norm), theirs.hidden_states[5])
    one = names["module"](2, functional.layer_norm(names["ours"][2][places], (16,)))
    second = 1 - functional.cosine_similarity(one, functional.layer_norm(before_norm[places], (24,))).mean()
    torch.testing.assert_close(middle, (first + second) / 2)

    # What it teaches: the same module is drawn every time, so steps of the student alone must lower the loss.
    begin, optimiser = names["loss"].item(), torch.optim.SGD(student.parameters(), 0.5)
    for _ in range(10):
        optimiser.zero_grad()
        names["loss"].backward()
        optimiser.step()
        exec(code, names)
    assert names["loss"].item() < 0.9 * begin
