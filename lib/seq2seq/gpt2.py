"""GPT-2 on word ids, trained afresh, and a pretrained causal language model on text, fine-tuned in its upper layers.

transformers is imported where it is used, so importing this module costs little.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from lib.causal_lm import backbones, caches
from lib.errors import UserError
from lib.seq2seq import nucleus
from lib.settings import Settings, Share
from lib.sources import hub
from lib.text.vocabulary import Vocabulary


class Gpt2Config(Settings):
    """Shape of the network; the defaults are GPT-2 base, and GPT-2 large has width 1280, 36 layers, 20 heads."""

    vocabulary: PositiveInt
    width: PositiveInt = 768
    layers: PositiveInt = 12
    heads: PositiveInt = 12
    positions: PositiveInt = 1024  # source, END and target
    dropout: Share = 0.1
    pad: NonNegativeInt = 0
    end: NonNegativeInt = 1


class Gpt2(nn.Module):
    """transformers' GPT-2 with fresh weights, on the source, END and the target in one row; word vectors are tied."""

    hidden = ("body.h.",)  # whose matrices Muon trains

    def __init__(self, config: Gpt2Config) -> None:
        """Build the network from torch's global generator; `ValueError` for heads that do not divide the width."""
        hub.use_offline()
        from transformers import GPT2Config, GPT2Model

        super().__init__()
        self.config = config
        shape = GPT2Config(
            vocab_size=config.vocabulary,
            n_positions=config.positions,
            n_embd=config.width,
            n_layer=config.layers,
            n_head=config.heads,
            resid_pdrop=config.dropout,
            embd_pdrop=config.dropout,
            attn_pdrop=config.dropout,
            bos_token_id=config.end,
            eos_token_id=config.end,
        )
        self.body = GPT2Model(shape)

    def output(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., vocabulary) of hidden states (..., width)."""
        return functional.linear(hidden, self.body.wte.weight)

    def losses(self, source: Tensor, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return `likelihood`, the mean of -log p over the target's words and END in nats, (sentences,).

        Word ids: source (sentences, source words) without padding, target (sentences, places) with END, then PAD.
        Raises `UserError` where source, END and target need more positions than there are.
        """
        self._check(source, target.shape[1])
        read = torch.cat([source, nucleus.shifted(target, self.config.end)], 1)
        hidden = self.body(read, use_cache=False).last_hidden_state[:, source.shape[1] :]
        return {"likelihood": nucleus.likelihood(hidden, target, self.config.pad, self.output)}

    @torch.inference_mode()
    def sample(self, source: Tensor, places: int, generator: torch.Generator) -> Tensor:
        """Draw target ids (sentences, places) by nucleus sampling; what follows END is PAD.

        Raises `UserError` where source, END and target need more positions than there are.
        """
        self._check(source, places)
        past = None

        def step(words: Tensor) -> Tensor:
            nonlocal past
            found = self.body(words, use_cache=True, **caches.argument(self.body, past))
            past = caches.of(found)
            return self.output(found.last_hidden_state[:, -1])

        source = source.to(self.body.device)
        start = torch.cat([source, torch.full_like(source[:, :1], self.config.end)], 1)
        return nucleus.sentences(step, start, places, self.config.pad, self.config.end, generator)

    def _check(self, source: Tensor, places: int) -> None:
        needed = source.shape[1] + places  # END takes a position, the last target place none
        if needed > self.config.positions:
            raise UserError(
                f"a source of {source.shape[1]} words and {places} target places need {needed} positions, GPT-2 has "
                f"{self.config.positions}; shorten the sentences or raise `positions`"
            )


class PretrainedConfig(Settings):
    """Which language model is fine-tuned, and how much of it."""

    name: str = backbones.SMOLLM2  # or a hub name (MODEL_DIR may hold it) or folder: the paper's are gpt2, gpt2-large
    layers: PositiveInt | None = None  # keep only the first so many (the smoke profile)
    trained_layers: PositiveInt | None = 2  # the uppermost and the final norm; None: all weights, word vectors too


class Pretrained(nn.Module):
    """A causal language model on text: the source, a line end, the target and the tokenizer's end token.

    Where only upper layers are trained, nothing below the first of them keeps what a backward pass needs.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        """Load model and tokenizer in float32; `UserError` when it cannot be had or does not fit the configuration."""
        super().__init__()
        self.config = config
        model, self.tokenizer = backbones.load_causal_lm(hub.place(config.name), "float32", config.layers)
        if not model.config.tie_word_embeddings:
            raise UserError(f"{config.name}: its output layer is not tied to its word vectors; choose another model")
        if self.tokenizer.eos_token_id is None:
            raise UserError(f"{config.name}: its tokenizer has no end token; choose another model")
        # The body alone: the tied matrix then has one name, in `state_dict` as among the parameters.
        self.body = model.base_model
        parts = list(self.body.children())
        place = next(number for number, part in enumerate(parts) if isinstance(part, nn.ModuleList))
        blocks = list(parts[place])
        trained = len(blocks) if config.trained_layers is None else config.trained_layers
        if not 1 <= trained <= len(blocks):
            raise UserError(f"{config.name}: trained_layers={trained}, but it has {len(blocks)}; correct the profile")
        self.requires_grad_(config.trained_layers is None)
        for part in [*blocks[-trained:], *parts[place + 1 :]]:
            part.requires_grad_(True)

    def output(self, hidden: Tensor) -> Tensor:
        """Return the logits (..., tokens of the tokenizer) of hidden states (..., width)."""
        return functional.linear(hidden, self.body.get_input_embeddings().weight)

    def losses_of_text(self, sources: Sequence[str], targets: Sequence[str]) -> dict[str, Tensor]:
        """Return `likelihood`, the mean of -log p over the target's tokens and the end token in nats, (sentences,).

        `ValueError` unless there are as many targets as sources.
        """
        end = self.tokenizer.eos_token_id
        prompts = self._prompts(sources)
        answers = [[*ids, end] for ids in self._tokens(targets)]
        rows = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        longest = max(map(len, rows))
        # Attention looks back only, so what fills a row up at its right needs no mask; -1 is no token.
        read = torch.tensor([row + [end] * (longest - len(row)) for row in rows], device=self.body.device)
        wanted = torch.tensor(
            [[-1] * len(p) + a + [-1] * (longest - len(p) - len(a)) for p, a in zip(prompts, answers, strict=True)],
            device=self.body.device,
        )
        hidden = self.body(read[:, :-1], use_cache=False).last_hidden_state
        return {"likelihood": nucleus.likelihood(hidden, wanted[:, 1:], -1, self.output)}

    @torch.inference_mode()
    def sample_text(
        self, sources: Sequence[str], candidates: int, max_new_words: int, generator: torch.Generator
    ) -> list[list[str]]:
        """Draw `candidates` targets for every source by nucleus sampling, each of at most `max_new_words` tokens.

        Sources of as many tokens share a batch, so that nothing is padding; each is read once for all its candidates.
        """
        groups: dict[int, list[int]] = defaultdict(list)
        prompts = self._prompts(sources)
        for number, prompt in enumerate(prompts):
            groups[len(prompt)].append(number)
        found: list[list[str]] = [[] for _ in sources]
        for _, members in sorted(groups.items()):
            start = torch.tensor([prompts[number] for number in members], device=self.body.device)
            drawn = self._continue(start, candidates, max_new_words, generator)
            for row, ids in enumerate(drawn.tolist()):
                text = self.tokenizer.decode(ids, skip_special_tokens=True)
                found[members[row // candidates]].append(" ".join(text.split()))
        return found

    def _continue(self, prompt: Tensor, candidates: int, places: int, generator: torch.Generator) -> Tensor:
        past = caches.of(self.body(prompt[:, :-1], use_cache=True))
        past.batch_repeat_interleave(candidates)

        def step(tokens: Tensor) -> Tensor:
            hidden = self.body(tokens, use_cache=True, **caches.argument(self.body, past)).last_hidden_state
            return self.output(hidden[:, -1])

        start, end = prompt[:, -1:].repeat_interleave(candidates, 0), self.tokenizer.eos_token_id
        return nucleus.sentences(step, start, places, end, end, generator)

    def _prompts(self, sources: Sequence[str]) -> list[list[int]]:
        return self._tokens([f"{source}\n" for source in sources])

    def _tokens(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]


class FineTuned(Pretrained):
    """`Pretrained` behind the interface of the other rows: word ids of the task's vocabulary in and out.

    So a word that the vocabulary lacks is lost here as it is in the other rows.
    """

    def __init__(self, config: PretrainedConfig, vocabulary: Vocabulary) -> None:
        """Load the model; `UserError` as `Pretrained`."""
        super().__init__(config)
        self.vocabulary = vocabulary

    def losses(self, source: Tensor, target: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return `likelihood` as `losses_of_text`, (sentences,), for word ids (sentences, words)."""
        return self.losses_of_text(self._texts(source), self._texts(target))

    def sample(self, source: Tensor, places: int, generator: torch.Generator) -> Tensor:
        """Draw target ids (sentences, places) by nucleus sampling; what follows END is PAD.

        Our choice: a sentence may take two tokens for every place, and is cut where it has more words than places.
        """
        drawn = self.sample_text(self._texts(source), 1, 2 * places, generator)
        pad, end = self.vocabulary.pad, self.vocabulary.end
        rows = [[*self.vocabulary.encode(texts[0])[: places - 1], end] for texts in drawn]
        return torch.tensor([row + [pad] * (places - len(row)) for row in rows], device=source.device)

    def _texts(self, ids: Tensor) -> list[str]:
        return [self.vocabulary.decode(row) for row in ids.tolist()]
