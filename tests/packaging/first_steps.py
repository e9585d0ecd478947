"""A first step of each method with the installed wheel alone: `python first_steps.py FOLDER`, without the checkout.

Tiny models with random weights, so that nothing is fetched. What it prints are checks that passed.
"""

import sys
from pathlib import Path

import peft
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers import TrainingArguments as Arguments
from wang_li_reproductions.api import beacons, diffusion, editing
from wang_li_reproductions.api.distillation import DistillationTrainer
from wang_li_reproductions.distillation.objective_config import ObjectiveConfig

WORDS = ["<unk>", "<s>", "</s>", *(f"w{number}" for number in range(17))]


def tokenizer(words: list[str] = WORDS) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def llama(words: int = len(WORDS)) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=words, hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2,
            num_key_value_heads=1, max_position_embeddings=64,
        )
    ).eval()  # fmt: skip


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(1)
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), n_embd=16, n_layer=2, n_head=2, n_positions=64))


def arguments(folder: Path) -> Arguments:
    plain = {"max_steps": 1, "per_device_train_batch_size": 4, "report_to": [], "use_cpu": True, "disable_tqdm": True}
    return Arguments(str(folder), logging_steps=1, **plain)


def edit(folder: Path, method: str, **settings: object) -> None:
    model = llama()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    edited = editing.edit(model, tokenizer(), [("w1 w2", " w7"), ("w3 w4", " w9")], method, **settings)
    scores = edited.scores()
    assert scores["rel"] is not None, scores
    edited.save(folder / method)
    edited.undo()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert editing.load(folder / method, model, tokenizer()).scores() == scores
    print(f"{method}: Rel {scores['rel']}")


def distil(folder: Path, **given: object) -> None:
    rows = [{"prompt": f"w{n % 5} w3", "response": f"w{n % 3} w4"} for n in range(8)]
    objective = ObjectiveConfig(output=1.0, **given)
    words = len(WORDS) + (objective.pairing != "same")
    theirs = tokenizer([*WORDS[:3], *WORDS[:2:-1], "w99"]) if objective.pairing != "same" else None
    args = arguments(folder / "student")
    trainer = DistillationTrainer(gpt2(), llama(words), tokenizer(), rows, objective, args, teacher_tokenizer=theirs)
    trainer.train()
    trainer.save_model(str(folder / "student"))
    (logged,) = [entry for entry in trainer.state.log_history if "output_loss" in entry]
    GPT2LMHeadModel.from_pretrained(folder / "student")
    print(f"distillation, {objective.pairing}: {logged['loss']:.3f}")


def weigh(folder: Path) -> None:
    facts = [{"prompt": f"w{n} w{n + 1}", "target": f"w{n + 2}"} for n in range(8)]
    model = peft.get_peft_model(llama(), peft.LoraConfig(r=2, target_modules=["down_proj"]))
    trainer = beacons.WeightedTrainer(model, tokenizer(), facts, args=arguments(folder / "weighted"))
    trainer.train()
    print(f"re-weighted: {trainer.state.log_history[0]['loss']:.3f}")


def write(folder: Path) -> None:
    pairs = [{"src": f"{one} {other}", "trg": f"{other} {one}"} for one in WORDS[3:7] for other in WORDS[3:7]]
    small = {"diffusion_steps": 8, "sampling_steps": 3, "width": 16, "layers": 1, "heads": 2, "embedding": 8}
    writer = diffusion.train(pairs, steps=2, **small)
    writer.save(folder / "writer")
    assert diffusion.load(folder / "writer").sample(["w1 w2"]) == writer.sample(["w1 w2"])
    print("diffusion")


def main() -> None:
    folder = Path(sys.argv[1])
    assert not any(name == "lib" or name.startswith("lib.") for name in sys.modules), "lib was imported"
    edit(folder, "lemoe", steps=5)
    edit(folder, "ft", steps=2)
    distil(folder, middle=1.0)
    distil(folder, pairing="minimum_edit")
    weigh(folder)
    write(folder)


if __name__ == "__main__":
    main()
