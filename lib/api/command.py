"""The command line: the methods on a model and data of one's own, a verb each.

python -m lib.api edit smollm2 edits.csv --out edited      # in a checkout
wang-li edit smollm2 edits.csv --out edited                # after `pip install .`

What was asked for goes to standard output, with `--json` as one JSON document; notes, bars and errors go to standard
error. Exit status: 0; 2 for wrong input, told in one line; 130 where it was interrupted.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

from lib import __version__, errors
from lib.api import arguments, verbs
from lib.api.arguments import real, whole
from lib.errors import UserError

LARGEST_SEED = 2**32 - 1  # numpy's
MODEL = f"a folder, a name on the hub, or {arguments.EMBEDDED} (the embedded SmolLM2-135M-Instruct)"


class Formatter(argparse.HelpFormatter):
    """argparse's, which tells a default where there is one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = isinstance(action.default, int | float | str) and not isinstance(action.default, bool)
        return f"{action.help} (default: %(default)s)" if told and action.default != argparse.SUPPRESS else action.help


class Parser(argparse.ArgumentParser):
    """argparse, whose errors are one line and whose options are written out."""

    def __init__(self, **named: Any) -> None:
        """Take what argparse takes."""
        super().__init__(**{"allow_abbrev": False, "formatter_class": Formatter, **named})

    def error(self, message: str) -> NoReturn:
        """Raise `UserError` with the message, and where help is."""
        raise UserError(f"{message} (see {self.prog} --help)")

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        """Read a value; the one line of a `UserError` gets the name of its argument."""
        try:
            return super()._get_value(action, text)
        except UserError as error:
            raise argparse.ArgumentError(action, str(error)) from error


def parser() -> Parser:
    """Return the parser of all verbs."""
    started = Path(sys.argv[0]).name
    prog = f"python -m {__package__}" if started == "__main__.py" or not started else "wang-li"
    told = "Edit a model, distil one, train a diffusion model, or measure semantic distances, on data of your own."
    found = Parser(prog=prog, description=told)
    found.add_argument("--version", action="version", version=__version__)
    below = found.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, act: Any, about: str, loads: bool = True) -> Parser:
        made = below.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        made.set_defaults(act=act)
        made.add_argument("--json", action="store_true", help="one JSON document on standard output, and nothing else")
        made.add_argument("--seed", type=whole(0, LARGEST_SEED), default=0, help="of all that is drawn")
        made.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or mps")
        made.add_argument("--threads", type=whole(1, 4096), help="processor threads (default: as torch chooses)")
        if loads:
            precisions = ["float32", "bfloat16", "float16"]
            made.add_argument("--dtype", choices=precisions, default="float32", help="of the weights that are loaded")
        return made

    _editing(verb)
    _diffusion(verb)
    _distillation(verb)
    _distances(verb)
    return found


def _editing(verb: Any) -> None:
    made = verb("edit", verbs.edit, "edit a model, save what it learnt, and print Rel, Gen and Loc on the edits")
    made.add_argument("model", metavar="MODEL", help=MODEL)
    made.add_argument("edits", metavar="EDITS", type=Path, help="JSON, JSON lines, CSV or a benchmark's own file")
    made.add_argument("--method", default="lemoe", help="one of those that the verb `methods` lists")
    made.add_argument("--tuned", action="store_true", help="our settings for small models, in place of the release's")
    _out(made)
    _set(made, "a setting of the method; may be repeated")
    made.add_argument("--test", metavar="PROMPTS", type=Path, help="prompts, one a line: answered before and after")
    made.add_argument("--texts", metavar="FILE", type=Path, help="texts for second moments, one a line")
    made.add_argument("--unrelated", metavar="FILE", type=Path, help="prompts that no edit is about, one a line")
    made.add_argument("--tuning", metavar="EDITS", type=Path, help="other edits, for a method that is trained first")
    _longest(made, 20)
    made = verb("ask", verbs.ask, "answer prompts greedily with a model and its saved edits")
    made.add_argument("model", metavar="MODEL", help=MODEL)
    made.add_argument("folder", metavar="FOLDER", type=Path, help="what `edit` saved")
    made.add_argument("prompts", metavar="PROMPT", nargs="*", help="a prompt, in quotation marks")
    made.add_argument("--file", type=Path, help="prompts, one a line")
    _longest(made, 20)
    verb("methods", verbs.methods, "list the methods that edit a model", loads=False)


def _diffusion(verb: Any) -> None:
    made = verb("train-diffusion", verbs.train_diffusion, "train a diffusion model on sentence pairs", loads=False)
    made.add_argument("pairs", metavar="PAIRS", type=Path, help='JSON lines of {"src", "trg"}')
    _out(made)
    made.add_argument("--method", choices=["infodiffusion", "diffuseq"], default="infodiffusion", help="which one")
    made.add_argument("--steps", type=whole(1), default=2000, help="of training")
    made.add_argument("--diffusion-steps", type=whole(1), default=200, help="T")
    made.add_argument("--sampling-steps", type=whole(1), default=20, help="of sampling, T at most")
    for name, default in (("width", 256), ("layers", 4), ("heads", 4), ("embedding", 128)):
        made.add_argument(f"--{name}", type=whole(1), default=default, help="of the denoiser")
    made.add_argument("--most-words", type=whole(1), default=8000, help="of the vocabulary")
    made.add_argument("--tokens", type=whole(1), default=2048, help="source and target words of a batch")
    made.add_argument("--rate", type=real(above_zero=True), default=2e-3, help="learning rate")
    made.add_argument("--workspace", metavar="FOLDER", type=Path, help="where a run that was stopped goes on from")
    _set(made, "a field of the diffusion process (lam, schedule, ...); may be repeated")
    made = verb("write", verbs.write, "write a target for each sentence with a trained diffusion model", loads=False)
    made.add_argument("folder", metavar="FOLDER", type=Path, help="what `train-diffusion` saved")
    made.add_argument("sentences", metavar="SENTENCE", nargs="*", help="a source sentence, in quotation marks")
    made.add_argument("--file", type=Path, help="sentences, one a line")
    made.add_argument("--candidates", type=whole(1), default=1, help="targets for each sentence")
    made.add_argument("--steps", type=whole(1), help="of sampling (default: as trained)")


def _distillation(verb: Any) -> None:
    made = verb("distil", verbs.distil, "distil a teacher into a student, with output and middle-layer losses")
    made.add_argument("student", metavar="STUDENT", help=f"{MODEL}; trained in float32")
    made.add_argument("teacher", metavar="TEACHER", help=MODEL)
    made.add_argument("rows", metavar="ROWS", type=Path, help='JSON lines of {"prompt", "response"} or {"messages"}')
    _out(made)
    for name, default, loss in (
        ("ce", 1.0, "cross-entropy"),
        ("output", 1.0, "output"),
        ("middle", 0.0, "middle-layer"),
    ):
        made.add_argument(f"--{name}", type=real(), default=default, help=f"weight of the {loss} loss")
    made.add_argument("--divergence", default="forward_kl", help="of the output loss")
    made.add_argument("--rule", default="uniform", help="which layers are compared")
    made.add_argument("--alignment", default="per_pair", help="between student's and teacher's states")
    made.add_argument("--distance", default="mse", help="of the states")
    made.add_argument("--proportions", default="fixed", help="how the weights move")
    made.add_argument("--pairing", default="same", help="of tokens, where the tokenizers differ")
    made.add_argument("--steps", type=whole(1), default=500, help="of training")
    made.add_argument("--batch", type=whole(1), default=8, help="rows of a step")
    made.add_argument("--rate", type=real(above_zero=True), default=1e-4, help="learning rate")
    made.add_argument("--cache", metavar="FOLDER", type=Path, help="where the teacher's signals are kept, read once")
    _longest(made, 512, "of prompt and response")
    _set(made, "a setting of the divergence (alpha, beta, mu); may be repeated")


def _distances(verb: Any) -> None:
    made = verb("distances", verbs.distances, "measure how far a model's answers are from the targets of facts")
    made.add_argument("model", metavar="MODEL", help=MODEL)
    made.add_argument("facts", metavar="FACTS", type=Path, help='JSON lines of {"prompt", "target"}')
    made.add_argument("--keep", type=real(above_zero=True, most=1), help="share of the facts that a filter keeps")
    made.add_argument("--reading", choices=["A", "B"], help="of the filter (default: A)")
    made.add_argument("--ruler", default="raw", help="which vectors the distance is between")
    _longest(made, 16)


def _out(made: Parser) -> None:
    made.add_argument("--out", metavar="FOLDER", type=Path, required=True, help="where it is saved")
    made.add_argument("--overwrite", action="store_true", help="write into a folder that is not empty")


def _set(made: Parser, about: str) -> None:
    made.add_argument("--set", metavar="NAME=VALUE", type=arguments.setting, action="append", default=[], help=about)


def _longest(made: Parser, default: int, of: str = "of an answer") -> None:
    made.add_argument("--longest", type=whole(1), default=default, help=f"tokens {of}")


def main(given: Sequence[str] | None = None) -> int:
    """Do what a command line says and print it; `UserError` for wrong input, `SystemExit` 0 after `--help`."""
    options = parser().parse_args(given)
    import torch

    threads = torch.get_num_threads()
    if options.threads:
        torch.set_num_threads(options.threads)
    options.device = arguments.device(options.device)
    torch.manual_seed(options.seed)
    try:
        with redirect_stdout(sys.stderr):  # whatever a library prints is none of the result
            told = options.act(options)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise UserError(f"out of memory on {options.device}: take a smaller model or batch, or fewer texts") from error
    finally:
        torch.set_num_threads(threads)
    document = {"verb": options.verb, **told.document, "seed": options.seed, "version": __version__}
    # In ASCII, so that no locale stands in the way of a machine.
    print(json.dumps(document, allow_nan=False) if options.json else told.text, flush=True)
    return 0


def run(given: Sequence[str] | None = None) -> None:
    """Run as a command: exit 0, 2 with one line for wrong input, 130 when interrupted."""

    def checked() -> int:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # a locale without a letter of an answer
        try:
            return main(given)
        except BrokenPipeError:  # `| head`: nobody reads any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 141

    errors.command(checked)
