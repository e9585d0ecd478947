"""Runs commands of this project on copies of it without importing torch each time.

The libraries are imported once, and every job is a fork that imports the `lib` of its own folder. Jobs are lines of
JSON on standard input, one after another.
"""

import importlib
import json
import os
import sys
import traceback

import datasets
import pandera.pandas
import peft
import scipy.stats
import torch
import transformers

# Looked up, so that they are imported and not only promised.
LOADED = (datasets, pandera.pandas, peft, scipy.stats, torch, transformers.LlamaForCausalLM)


def work(job: dict) -> int:
    """Run the commands of a job in its folder, in this process; the status of the first that fails, or of the last."""
    os.chdir(job["folder"])
    os.environ |= job["environment"]
    sys.path.insert(0, job["folder"])
    reach = importlib.import_module("lib.statements.reach")
    reach.code_now = lambda: reach.AT_START  # nobody edits the copy now, and looking takes half of the time
    for command in job["commands"]:
        os.environ |= command.get("environment", {})
        sys.argv = [command["module"], *command["arguments"]]
        status = importlib.import_module(command["module"]).main()
        if status:
            break
    return status


def main() -> None:
    """Answer each job with the exit status of its fork."""
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            status = 1
            try:
                status = work(job)
            except BaseException:
                traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
