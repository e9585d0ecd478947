"""Students: their shape, their seed, and the projection of the teacher's embeddings against numpy."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from lib.distillation.students import parameters, projected, student
from lib.distillation.vocabularies import TrainedVocabulary
from lib.errors import UserError

VOCABULARY = TrainedVocabulary(["say it in today's words"], 270)
SIZE = len(VOCABULARY)


def table(wide: int = 40) -> torch.Tensor:
    stream = torch.Generator().manual_seed(3)
    return 7 + torch.randn(SIZE, wide, generator=stream) @ torch.randn(wide, wide, generator=stream)


def test_parameters_are_those_of_the_configuration_with_tied_embeddings():
    gpt2 = student("gpt2", 16, 3, 2, VOCABULARY, positions=20)
    block = 12 * 16 * 16 + 13 * 16
    assert isinstance(gpt2, GPT2LMHeadModel)
    assert parameters(gpt2) == SIZE * 16 + 20 * 16 + 3 * block + 2 * 16
    llama = student("llama", 24, 2, 2, VOCABULARY)
    assert isinstance(llama, LlamaForCausalLM)
    assert parameters(llama) == SIZE * 24 + 2 * (4 * 24 * 24 + 3 * 24 * 64 + 2 * 24) + 24
    for model in (gpt2, llama):
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
        assert not model.training
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("style", ["gpt2", "llama"])
def test_the_seed_decides_and_the_global_stream_does_not(style):
    torch.manual_seed(1)
    first = student(style, 16, 1, 2, VOCABULARY, seed=0).state_dict()
    drawn = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.rand(1))  # building has drawn nothing from it
    again, other = (student(style, 16, 1, 2, VOCABULARY, seed=seed).state_dict() for seed in (0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_projection_is_the_principal_components_up_to_sign_and_scale():
    embeddings, width = table(), 12
    found = projected(embeddings, width).double()
    centred = embeddings.double().numpy() - embeddings.double().numpy().mean(0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    expected = torch.from_numpy(centred @ axes[:, ::-1][:, :width].copy())
    scale = 0.02 / expected.square().mean().sqrt()
    signs = (found * expected).sum(0).sign()
    torch.testing.assert_close(found, expected * scale * signs, rtol=1e-4, atol=1e-6)
    kept = values[::-1][:width].sum()
    assert (found / scale).square().sum().item() == pytest.approx(kept, rel=1e-5)


def test_projection_does_not_depend_on_the_sign_of_an_axis():
    embeddings = table()
    turned = torch.linalg.qr(torch.randn(40, 40, generator=torch.Generator().manual_seed(0)))[0]
    one, two = projected(embeddings, 5), projected(embeddings @ turned, 5)
    torch.testing.assert_close(one @ one.T, two @ two.T, rtol=1e-3, atol=1e-6)  # angles, whatever the axes
    torch.testing.assert_close(projected(embeddings.flip(0), 5).flip(0), one, rtol=1e-3, atol=1e-6)


def test_a_projected_student_differs_from_scratch_in_its_embeddings_alone():
    scratch = student("gpt2", 16, 1, 2, VOCABULARY)
    model = student("gpt2", 16, 1, 2, VOCABULARY, "projected", table())
    torch.testing.assert_close(model.get_input_embeddings().weight, projected(table(), 16))
    differing = {
        name
        for name, value in scratch.named_parameters()
        if not torch.equal(value, dict(model.named_parameters())[name])
    }
    assert differing == {"transformer.wte.weight"}


def test_errors_name_the_remedy():
    with pytest.raises(UserError, match="unknown style of student 'bert': choose one of gpt2, llama"):
        student("bert", 16, 1, 2, VOCABULARY)
    with pytest.raises(UserError, match="width 16 with 3 heads"):
        student("gpt2", 16, 1, 3, VOCABULARY)
    with pytest.raises(UserError, match="must be a multiple of even heads"):
        student("llama", 6, 1, 2, VOCABULARY)
    for init, embeddings in (("projected", None), ("scratch", table()), ("copied", None)):
        with pytest.raises(UserError, match=f"initialisation '{init}': take scratch, or projected with"):
            student("gpt2", 16, 1, 2, VOCABULARY, init, embeddings)
    with pytest.raises(UserError, match=r"no 64 principal axes: take a narrower student"):
        projected(table(), 64)


def test_a_student_begins_from_gpt2s_checkpoint_but_for_its_word_vectors(tmp_path, monkeypatch):
    torch.manual_seed(3)
    released = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=64))
    released.save_pretrained(tmp_path / "gpt2")
    monkeypatch.setenv("MODEL_DIR", str(tmp_path))
    build = {"width": 16, "layers": 2, "heads": 2, "vocabulary": VOCABULARY, "positions": 40}
    made, fresh = student("gpt2_checkpoint", **build), student("gpt2", **build)
    theirs = dict(released.transformer.named_parameters())
    for name, value in made.transformer.named_parameters():
        if name == "wte.weight":
            assert torch.equal(value, fresh.transformer.wte.weight)
        else:
            assert torch.equal(value, theirs[name][:40] if name == "wpe.weight" else theirs[name])
    with pytest.raises(UserError, match=r"gpt2 is \(16, 2, 2\), 64 positions, not \(16, 2, 2\), 65 positions"):
        student("gpt2_checkpoint", **build | {"positions": 65})
    with pytest.raises(UserError, match="take its shape"):
        student("gpt2_checkpoint", **build | {"layers": 3})
    monkeypatch.delenv("MODEL_DIR")
    with pytest.raises(UserError, match=r"gpt2: .*keep a copy in MODEL_DIR"):
        student("gpt2_checkpoint", **build)
