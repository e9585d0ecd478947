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

from lib import contract, paths, running, runs

PROFILE = config.get("profile", "cpu")
ROWS = config.get("rows", "core")
ROOT = (paths.work_root() or paths.BUILD).absolute()
STAMPS = ROOT / "work" / PROFILE / "stamps"
SOURCES = STAMPS / "sources"
PYTHON = shlex.quote(sys.executable)
CORES = workflow.cores
GPUS = 1 if PROFILE in ("gpu", "paper") else 0
TINY = PROFILE == "smoke"  # too small for two threads, and its seconds are never quoted
ONE_THREAD = "".join(f"{variable}=1 " for variable in running.THREADS if TINY)

ONLY = str(config.get("only") or "").split()
if "pending" in config:
    CONTRACTS = contract.below(ONLY)
    PENDING = (config["pending"] or "").split()
else:
    from lib import reproduce

    CONTRACTS = reproduce.chosen(ONLY, PROFILE, ROWS)
    PENDING = [case.name for case in reproduce.needed(CONTRACTS, PROFILE, ROWS)]


def executed(notebook):
    return ROOT / "notebooks" / PROFILE / f"{notebook.name}.ipynb"


def group(case):
    """Return the part of a series that a case belongs to: its cases share a process, which is dear to start."""
    return "/".join(case.split("/")[: 1 if TINY else 2])


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
        command=f"{PYTHON} -m lib.sources",
    shell:
        "{params.command} 2>&1 > /dev/null"


# Training and timing run alone, with all threads; what is tiny on one thread, side by side.
rule cases:
    input:
        SOURCES,
    output:
        touch(f"{STAMPS}/{{group}}.done"),
    wildcard_constraints:
        group=r"\d_.+",
    params:
        tally=lambda wildcards: runs.tally(PROFILE, wildcards.group).absolute(),
        cases=lambda wildcards: [case for case in PENDING if group(case) == wildcards.group],
        command=f"{ONE_THREAD}{PYTHON} -m lib.cases run --profile {shlex.quote(PROFILE)} --rows {ROWS} --only",
    threads: 1 if TINY else CORES
    resources:
        gpu=GPUS,
    shell:
        "mkdir -p $(dirname {params.tally:q}) && rm -f {params.tally:q} && "
        "REPRODUCTION_TALLY={params.tally:q} {params.command} {params.cases:q} 2>&1"


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
            command=f"{ONE_THREAD}{PYTHON} -m lib.running {shlex.quote(str(NOTEBOOK.notebook))}"
            f" --profile {shlex.quote(PROFILE)}" + (" --record" if int(config.get("record", 0)) else ""),
        threads: 1 if TINY or NOTEBOOK.load == "light" else CORES
        resources:
            gpu=GPUS,
        shell:
            "{params.command} 2>&1"
