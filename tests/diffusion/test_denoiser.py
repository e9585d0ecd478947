"""The network: its attention and positions against independent forms, and what it must not depend on."""

import math

import pytest
import torch
from torch.nn import functional

from lib.diffusion import denoiser
from lib.diffusion.denoiser import Denoiser, DenoiserConfig
from lib.diffusion.model import DiffusionConfig, DiffusionModel
from lib.diffusion.process import ProcessConfig
from lib.diffusion.sampling import SamplingConfig
from lib.seq2seq import blocks

SHAPE = DenoiserConfig(vocabulary=20, embedding=8, width=32, layers=2, heads=4, dropout=0.0, embedding_scale=0.3)


def test_attention_equals_torchs_own() -> None:
    query, key, value = torch.randn(3, 2, 4, 7, 8).unbind(0)
    expected = functional.scaled_dot_product_attention(query, key, value)
    assert torch.allclose(blocks.attention(query, key, value), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_attention_of_turned_words_equals_its_parts_and_so_do_its_gradients(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(2, 7, 3, 4, 6, generator=generator).to(dtype).requires_grad_()
    angles = blocks.rotary_angles(3, 4, 6, torch.device("cpu"))
    found = blocks.turned_attention(mixed, angles)
    query, key, value = mixed.double().permute(2, 0, 3, 1, 4)
    parts = blocks.attention(blocks.rotate(query, angles), blocks.rotate(key, angles), value).transpose(1, 2)
    weights = torch.randn(found.shape, generator=generator).to(dtype)
    both = [torch.autograd.grad((x * weights).sum(), mixed)[0] for x in (found, parts)]
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-5, torch.bfloat16: 4e-2}[dtype]
    assert torch.allclose(found.double(), parts, atol=tolerance)
    assert torch.allclose(*both, atol=tolerance)


def test_rotary_products_depend_on_the_distance_of_places_only() -> None:
    cosine, sine = blocks.rotary_angles(6, 6, 8, torch.device("cpu"))
    assert torch.equal(cosine[:6], cosine[6:])  # the target counts from zero again
    query, key = torch.randn(8), torch.randn(8)
    turned = [blocks.rotate(v.expand(6, 8), (cosine[:6], sine[:6])) for v in (query, key)]
    products = turned[0] @ turned[1].T
    for distance in range(-5, 6):
        assert products.diagonal(distance).std(unbiased=False) < 1e-5
    assert turned[0].norm(dim=-1).tolist() == pytest.approx([query.norm().item()] * 6)


def test_word_vectors_keep_their_norm_and_score_themselves_best() -> None:
    model = Denoiser(SHAPE)
    vectors = model.vectors()
    assert vectors.norm(dim=-1).tolist() == pytest.approx([0.3 * math.sqrt(8)] * 20, rel=1e-5)
    scores = model.logits(vectors, vectors)
    assert scores.argmax(-1).tolist() == list(range(20))
    assert scores.diagonal().tolist() == pytest.approx([math.sqrt(8)] * 20, rel=1e-4)
    assert torch.allclose(model.expected(scores, vectors), torch.softmax(scores, -1) @ vectors)


def test_a_sentence_does_not_depend_on_the_others_of_its_batch() -> None:
    torch.manual_seed(0)
    model = Denoiser(SHAPE).eval()
    source, noised, previous = torch.randn(3, 4, 8), torch.randn(3, 5, 8), torch.randn(3, 5, 8)
    t = torch.tensor([1.0, 50.0, 100.0])
    together = model(source, noised, previous, t, 100)
    for row in range(3):
        one = slice(row, row + 1)
        assert torch.allclose(model(source[one], noised[one], previous[one], t[one], 100), together[one], atol=1e-5)


def test_source_noise_previous_estimate_and_time_all_matter() -> None:
    torch.manual_seed(0)
    model = Denoiser(SHAPE).eval()
    given = [torch.randn(1, 4, 8), torch.randn(1, 5, 8), torch.randn(1, 5, 8), torch.tensor([50.0])]
    base = model(*given, 100)
    for place in range(4):
        changed = list(given)
        changed[place] = changed[place] * 0.5 + 0.1
        assert (model(*changed, 100) - base).abs().max() > 1e-4


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of twice the number of heads"):
        Denoiser(SHAPE.model_copy(update={"heads": 5}))


def test_flops_count_every_matrix_product() -> None:
    model = Denoiser(SHAPE)
    count = 0

    def linear(module: torch.nn.Linear, arguments: tuple[torch.Tensor], _: torch.Tensor) -> None:
        nonlocal count
        count += 2 * module.weight.numel() * arguments[0].shape[:-1].numel()

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and not name.startswith(("time", "enter")):
            module.register_forward_hook(linear)
    words = 6
    vectors = model.vectors()
    estimate = model(torch.randn(1, words, 8), torch.randn(1, words, 8), torch.randn(1, words, 8), torch.ones(1), 10)
    model.logits(estimate, vectors)
    enter = 2 * words * (8 * 32 + 16 * 32)  # the source has no previous estimate
    leave_of_source = 2 * words * 8 * 32  # counted by the rule, not computed
    rounding = 2 * words * 8 * 20
    assert denoiser.forward_flops(SHAPE) * 2 * words == pytest.approx(
        count + enter + rounding + leave_of_source, rel=0.05
    )


@pytest.mark.parametrize("how", [{}, {"estimate": "expected", "squared_error_of": "estimate"}])
def test_the_losses_and_gradients_are_those_of_the_plain_parts(
    how: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, to 1e-5: word vectors by `normalize`, torch's cross entropy, and attention left to autograd."""
    torch.manual_seed(0)
    process = ProcessConfig(steps=50, timesteps="uniform", rounding_of="estimate", self_conditioning=1.0, **how)
    model = DiffusionModel(
        DiffusionConfig(shape=SHAPE, process=process, sampling=SamplingConfig(steps=2)), torch.arange(20.0)
    )
    source, target = torch.randint(3, 20, (6, 4)), torch.randint(3, 20, (6, 7))

    def found() -> list[torch.Tensor]:
        model.zero_grad()
        loss = sum(model.losses(source, target, torch.Generator().manual_seed(1)).values())
        loss.mean().backward()
        return [loss.detach(), *(value.grad.clone() for value in model.parameters())]

    def plain_attention(mixed: torch.Tensor, angles: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        query, key, value = mixed.permute(2, 0, 3, 1, 4)
        turned = blocks.rotate(query, angles), blocks.rotate(key, angles)
        return functional.scaled_dot_product_attention(*turned, value).transpose(1, 2)

    def plain_reading(
        self: Denoiser, estimate: torch.Tensor, vectors: torch.Tensor, ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.logits(estimate, vectors)
        loss = functional.cross_entropy(scores.transpose(1, 2), ids, reduction="none")
        return loss, self.expected(scores, vectors)

    ours = found()
    monkeypatch.setattr(blocks, "turned_attention", plain_attention)
    monkeypatch.setattr(Denoiser, "read", plain_reading)
    monkeypatch.setattr(Denoiser, "vectors", lambda self: functional.normalize(self.words, dim=-1) * 0.3 * math.sqrt(8))
    for mine, plain in zip(ours, found(), strict=True):
        assert torch.allclose(mine, plain, rtol=1e-5, atol=1e-5 * float(plain.abs().max()))
