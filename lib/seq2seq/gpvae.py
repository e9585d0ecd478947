"""GPVAE-T5: a T5 encoder-decoder between whose halves stands a latent with a Gaussian process as its prior.

After Du et al. (2022). The encoder's states h_1..h_n become latents z_1..z_n, to which the decoder attends in place of
the states. In each dimension of z the prior is a Gaussian process over the states, with mean h and one kernel for all
dimensions; the posterior is independent over places and dimensions and reads h alone, as in the released code.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from lib.causal_lm import caches
from lib.errors import UserError
from lib.seq2seq import draws, nucleus
from lib.settings import Settings, Share
from lib.sources import hub

if TYPE_CHECKING:
    from transformers import EncoderDecoderCache, T5ForConditionalGeneration

# Our choice: the share of independent noise in the prior, which bounds the condition number of K for n words by
# 1 + 10 n, also where two states are equal.
JITTER = 0.1


class GPVAEConfig(Settings):
    """Shape of the network, its prior and its sampling; the defaults are T5 base's shape and our choices."""

    vocabulary: PositiveInt
    width: PositiveInt = 768
    layers: PositiveInt = 12  # of the encoder, and again of the decoder
    heads: PositiveInt = 12
    dropout: Share = 0.1
    pad: NonNegativeInt = 0
    end: NonNegativeInt = 1
    scale: PositiveFloat = 1.0  # v: standard deviation of the prior, in units of the root mean square of fresh states
    reach: PositiveFloat = 0.5  # r: length scale of the kernel, between states brought to length 1
    beta: NonNegativeFloat = 1.0  # weight of the divergence
    greedy: bool = True  # our choice: the latent alone makes sentences differ; False draws from a nucleus
    # A T5 that is fine-tuned, and has its own shape: a hub name (MODEL_DIR may hold it) or a folder; None: fresh.
    checkpoint: str | None = None


class GPVAE(nn.Module):
    """T5, fresh or from a checkpoint, with a stochastic layer between encoder and decoder.

    T5's own scales: embeddings start at unit variance, and the output layer, tied to them, reads states divided by
    sqrt(width). Our choices: decoding starts from END, as in the other models here, and the posterior starts at the
    prior's mean and variance.
    """

    def __init__(self, config: GPVAEConfig, words: Sequence[str] = ()) -> None:
        """Build the network with fresh weights from torch's global generator, or load its checkpoint.

        A checkpoint has vectors of its own tokens: each of `words`, which are the vocabulary's entries, starts with the
        mean of its tokens' vectors (our choice). Raises `ValueError` when the heads do not divide the width or there
        are not as many words as entries, `UserError` for a checkpoint that cannot be had or is no T5 of the first kind.
        """
        super().__init__()
        if config.width % config.heads:
            raise ValueError(f"the width {config.width} must be a multiple of the number of heads, {config.heads}")
        if config.checkpoint is not None and len(words) != config.vocabulary:
            raise ValueError(f"{len(words)} words are given for a vocabulary of {config.vocabulary}")
        self.config = config
        self.t5 = _fresh(config) if config.checkpoint is None else _loaded(config, words)
        self.width = self.t5.config.d_model
        named = self.t5.named_parameters(prefix="t5")
        # Whose matrices Muon trains: all but the word vectors and the table of relative positions.
        self.hidden = tuple(n for n, p in named if p.ndim == 2 and ".block." in n and "relative" not in n)
        self.shift, self.log_variance = (nn.Linear(self.width, self.width) for _ in range(2))
        for layer in (self.shift, self.log_variance):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def losses(self, source: Tensor, target: Tensor, generator: draws.Stream) -> dict[str, Tensor]:
        """Return `likelihood` and `kl`, (sentences,), for word ids `source` and `target` (sentences, words).

        `likelihood` is the mean of -log p(word | earlier words, z) in nats over words and END, with one z drawn from
        the posterior; `kl` is beta times the divergence of the posterior from the prior in nats, summed over the source
        words and averaged over the dimensions of z. Our choice, near the released code's weight: the bound itself would
        sum over dimensions and divide by the counted places.
        """
        hidden = self._encode(source)
        mean, log_variance = hidden + self.shift(hidden).float(), self._log_variance(hidden)
        z = mean + (log_variance / 2).exp() * _noise(hidden, generator)
        divergence = kl_to_process(mean, log_variance, hidden, covariance(hidden, self.config.scale, self.config.reach))

        states, _ = self._decode(nucleus.shifted(target, self.config.end), z)
        return {
            "likelihood": nucleus.likelihood(states, target, self.config.pad, self._logits),
            "kl": self.config.beta * divergence / self.width,
        }

    @torch.inference_mode()
    def sample(self, source: Tensor, places: int, generator: torch.Generator) -> Tensor:
        """Draw target ids (sentences, places) for `source` (sentences, words); what follows END is PAD.

        z is drawn once per sentence from the prior (our choice: the released code draws it from the posterior), then
        the words one after another (`GPVAEConfig.greedy`).
        """
        hidden = self._encode(source)
        root = torch.linalg.cholesky(covariance(hidden, self.config.scale, self.config.reach))
        z = hidden + root @ _noise(hidden, generator)
        pad, end, cache = self.config.pad, self.config.end, None

        def step(words: Tensor) -> Tensor:
            nonlocal cache
            states, cache = self._decode(words, z, cache)
            logits = self._logits(states[:, -1])
            if self.config.greedy:
                logits[:, pad] = -math.inf
                logits = logits.masked_fill(logits < logits.amax(1, keepdim=True), -math.inf)
            return logits

        return nucleus.sentences(step, source.new_full((len(source), 1), end), places, pad, end, generator)

    def _encode(self, source: Tensor) -> Tensor:
        return self.t5.encoder(input_ids=source).last_hidden_state.float()

    def _log_variance(self, hidden: Tensor) -> Tensor:
        return self.log_variance(hidden).float() + 2 * math.log(self.config.scale)

    def _decode(
        self, before: Tensor, z: Tensor, cache: "EncoderDecoderCache | None" = None
    ) -> "tuple[Tensor, EncoderDecoderCache | None]":
        """Return the decoder's states after the words `before` (sentences, places), and its cache outside training."""
        found = self.t5.decoder(
            input_ids=before,
            encoder_hidden_states=z,
            use_cache=torch.is_inference_mode_enabled(),
            **caches.argument(self.t5.decoder, cache),
        )
        return found.last_hidden_state, caches.of(found)

    def _logits(self, states: Tensor) -> Tensor:
        return self.t5.lm_head(states * self.width**-0.5).float()


def _fresh(config: GPVAEConfig) -> "T5ForConditionalGeneration":
    from transformers import T5Config, T5ForConditionalGeneration  # slow to import

    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=config.vocabulary,
            d_model=config.width,
            d_kv=config.width // config.heads,
            d_ff=4 * config.width,
            num_layers=config.layers,
            num_heads=config.heads,
            dropout_rate=config.dropout,
            pad_token_id=config.pad,
            eos_token_id=config.end,
        )
    )


def _loaded(config: GPVAEConfig, words: Sequence[str]) -> "T5ForConditionalGeneration":
    """Return the T5 of the checkpoint, in which each of `words` has the mean of its tokens' vectors."""
    transformers = hub.import_transformers(offline=False)
    name, place = config.checkpoint, hub.place(str(config.checkpoint))
    try:
        told, _ = transformers.PretrainedConfig.get_config_dict(place)  # a T5Config itself says that all are tied
        tokenizer = transformers.AutoTokenizer.from_pretrained(place)
        found, report = transformers.T5ForConditionalGeneration.from_pretrained(
            place, dropout_rate=config.dropout, dtype="float32", use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError) as error:
        remedy = "set HF_HUB_OFFLINE=0 and be online, or keep a copy in the hub's cache"
        raise UserError(f"{name}: cannot be loaded ({str(error).splitlines()[0].rstrip('.')}); {remedy}") from error
    if report["missing_keys"] or not told.get("tie_word_embeddings", True):
        raise UserError(f"{name}: not a T5 whose output layer is tied to its word vectors; use t5-base")
    table = found.get_input_embeddings().weight.detach().clone()
    # A piece that continues a word is read as a word; of what has no token of its own the vector is that of UNK.
    pieces = tokenizer([word.removeprefix("##") for word in words], add_special_tokens=False)["input_ids"]
    pieces[config.pad], pieces[config.end] = [tokenizer.pad_token_id], [tokenizer.eos_token_id]
    vectors = torch.stack([table[ids or [tokenizer.unk_token_id]].mean(0) for ids in pieces])
    found.resize_token_embeddings(len(vectors), mean_resizing=False)
    with torch.no_grad():
        found.get_input_embeddings().weight.copy_(vectors)
    return found


def _noise(like: Tensor, generator: draws.Stream) -> Tensor:
    return draws.normal(like.shape, generator).to(like)


def covariance(hidden: Tensor, scale: float, reach: float) -> Tensor:
    """Return K (sentences, words, words) of the prior over the states `hidden` (sentences, words, width).

    K_ij = v^2 (exp(-|u_i - u_j|^2 / (2 r^2)) + jitter [i = j]) / (1 + jitter) in float32, with v = `scale`, r = `reach`
    and u = h / |h|. Our choices: states of length 1, so that K stays well conditioned however large they grow, and the
    jitter of 0.1.
    """
    with torch.autocast(hidden.device.type, enabled=False):
        unit = functional.normalize(hidden.float(), dim=-1)
        # |u_i - u_j|^2 = 2 - 2 u_i.u_j, which rounding may leave slightly below 0 where the two are equal.
        likeness = torch.exp((unit @ unit.mT - 1).clamp(max=0) / reach**2)
        same = torch.eye(hidden.shape[1], device=hidden.device)
        return scale**2 * (likeness + JITTER * same) / (1 + JITTER)


def kl_to_process(mean: Tensor, log_variance: Tensor, prior_mean: Tensor, prior: Tensor) -> Tensor:
    """Return KL(q || p) in nats, (sentences,), summed over words and dimensions.

    q is N(`mean`, exp(`log_variance`)), independent over words and dimensions; p is N(`prior_mean`, `prior`), with one
    covariance (sentences, words, words) for all dimensions. The three others are (sentences, words, width). Raises
    `torch.linalg.LinAlgError` unless `prior` is positive definite.
    """
    with torch.autocast(mean.device.type, enabled=False):
        root = torch.linalg.cholesky(prior)
        same = torch.eye(prior.shape[-1], dtype=prior.dtype, device=prior.device).expand_as(prior)
        inverse = torch.linalg.solve_triangular(root, same, upper=False)
        trace = (inverse.square().sum(-2)[..., None] * log_variance.exp()).sum((1, 2))
        distance = (inverse @ (mean - prior_mean)).square().sum((1, 2))
        log_determinant = 2 * mean.shape[-1] * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return (trace + distance - mean[0].numel() + log_determinant - log_variance.sum((1, 2))) / 2
