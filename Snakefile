"""The graph: sources, cases, notebooks, figures and tables, built from the contracts in the notebooks' metadata.

`make reproduce` runs it on the local cores. On a cluster, from a shared folder, with the extra `cluster` installed:
    snakemake --profile cluster/slurm --config profile=gpu
Set `profile`, `rows` (core or all) and `only` (some notebooks, or folders of them) with --config. `pending` names the
cases to compute before any notebook runs; without it all cases get a job, which reads its record if that is current.

Jobs print to standard output only: what Snakemake itself says goes to standard error, and from there to a log.
Everything declared here lies under build/: Snakemake deletes what it declares, so published files are not declared.
"""

import re
import shlex
import sys

from lib import paths
from lib.machine.threads import VARIABLES
from lib.running import contract, last_runs

PROFILE = config.get("profile", "cpu")
ROWS = config.get("rows", "core")
ROOT = (paths.work_root() or paths.BUILD).absolute()
STAMPS = ROOT / "work" / PROFILE / "stamps"
SOURCES = STAMPS / "sources"
PYTHON = shlex.quote(sys.executable)
CORES = workflow.cores
GPUS = 1 if PROFILE in ("gpu", "paper") else 0
TINY = PROFILE == "smoke"  # too small for two threads, and its seconds are never quoted
ONE_THREAD = "".join(f"{variable}=1 " for variable in VARIABLES)
TWO = paths.DATA / "results" / "two_threads"  # the cases whose records are of two threads; all others take one
ON_ALL = set(TWO.read_text().split("\n")) if TWO.is_file() and not TINY else set()

ONLY = str(config.get("only") or "").split()
if "pending" in config:
    CONTRACTS = contract.below(ONLY)
    PENDING = (config["pending"] or "").split()
else:
    from lib.running import reproduce

    CONTRACTS = reproduce.chosen(ONLY, PROFILE, ROWS)
    PENDING = [case.name for case in reproduce.needed(CONTRACTS, PROFILE, ROWS)]


def executed(notebook):
    return ROOT / "notebooks" / PROFILE / f"{notebook.name}.ipynb"


def group(case):
    """Return the part of a series that a case belongs to: its cases share a process, which is dear to start."""
    return "/".join(case.split("/")[: 1 if TINY else 2])


def seats(name):
    """Return the cores that a group of cases takes: one, or all beside a GPU and where one computes on two threads."""
    return CORES if GPUS or any(f"{PROFILE} {case}" in ON_ALL for case in PENDING if group(case) == name) else 1


def stamps(notebook):
    return sorted({STAMPS / f"{group(case)}.done" for case in PENDING if notebook.reads(case)})


rule all:
    default_target: True
    input:
        [executed(notebook) for notebook in CONTRACTS],


rule sources:
    output:
        touch(str(SOURCES)),
    params:
        command=f"{PYTHON} -m lib.sources.setup",
    shell:
        "{params.command} 2>&1 > /dev/null"


# Cases compute on the threads that they name: nearly all on one, side by side; those of two, timing among them, alone.
rule cases:
    input:
        SOURCES,
    output:
        touch(f"{STAMPS}/{{group}}.done"),
    wildcard_constraints:
        group=r"\d_.+",
    params:
        tally=lambda wildcards: last_runs.tally(PROFILE, wildcards.group).absolute(),
        cases=lambda wildcards: [case for case in PENDING if group(case) == wildcards.group],
        threads=lambda wildcards: ONE_THREAD if seats(wildcards.group) == 1 else "",
        command=f"{PYTHON} -m lib.running.catalogue run --profile {shlex.quote(PROFILE)} --rows {shlex.quote(ROWS)} --only",
    threads: lambda wildcards: seats(wildcards.group)
    resources:
        gpu=GPUS,
    shell:
        'mkdir -p "$(dirname {params.tally:q})" && rm -f {params.tally:q} && '
        "REPRODUCTION_TALLY={params.tally:q} {params.threads}{params.command} {params.cases:q} 2>&1"


for NOTEBOOK in CONTRACTS:

    rule:
        name:
            "notebook_" + re.sub(r"\W", "_", NOTEBOOK.name)
        input:
            SOURCES,
            stamps(NOTEBOOK),
            [executed(other) for other in CONTRACTS if NOTEBOOK.reads_verdicts and not other.reads_verdicts],
            NOTEBOOK.notebook,
        output:
            executed(NOTEBOOK),
            [paths.work_figures(PROFILE).absolute() / file for file in NOTEBOOK.files],
        params:
            command=f"{ONE_THREAD if TINY else ''}{PYTHON} -m lib.running.execution {shlex.quote(str(NOTEBOOK.notebook))}"
            f" --profile {shlex.quote(PROFILE)}" + (" --record" if int(config.get("record", 0)) else ""),
        threads: 1 if TINY or NOTEBOOK.load == "light" else CORES
        resources:
            gpu=GPUS,
        shell:
            "{params.command} 2>&1"
