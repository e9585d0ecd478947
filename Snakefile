"""The graph: sources, cases, notebooks, figures and tables, built from the contracts in the notebooks' metadata.

`make reproduce` runs it on the local cores. On a cluster, from a shared folder, with the extra `cluster` installed:
    snakemake --profile cluster/slurm --config profile=gpu
Set `profile`, `rows` (core or all) and `only` (some notebooks, or folders of them) with --config. `pending` names the
cases to compute before any notebook runs; without it each case gets a job of its own, which reads its record if that is
current, and asks for the memory, minutes and GPU that its plan says. docs/cluster.md has the rest.

Jobs print to standard output only: what Snakemake itself says goes to standard error, and from there to a log.
Everything declared here lies under build/: Snakemake deletes what it declares, so published files are not declared.
"""

import os
import re
import shlex
import sys
from pathlib import Path

from lib import paths, profiles
from lib.machine.threads import VARIABLES
from lib.running import contract, last_runs

PROFILE = profiles.named(config.get("profile", "cpu"))
ROWS = config.get("rows", "core")
ROOT = Path(os.path.relpath(paths.work_root() or paths.BUILD))  # not absolute: to Snakemake braces are patterns
PYTHON = shlex.quote(sys.executable)
GPUS = 1 if profiles.profile(PROFILE).device == "cuda" else 0
TINY = profiles.origin(PROFILE) == "smoke"  # too small for two threads, and its seconds are never quoted
ONE_THREAD = "".join(f"{variable}=1 " for variable in VARIABLES)
TWO = paths.DATA / "results" / "two_threads"  # the cases whose records are of two threads; all others take one
ON_ALL = set(TWO.read_text().split("\n")) if TWO.is_file() and not TINY else set()

ONLY = str(config.get("only") or "").split()
EACH = "pending" not in config  # a job for each case, as on a cluster
CORES = workflow.cores
if EACH:
    from lib.running import jobs

    CONTRACTS, JOBS = jobs.graph(ONLY, PROFILE, ROWS)
    PENDING = list(JOBS)
    CORES = min(CORES, jobs.most_cores() or CORES)
    STAMPS = ROOT / "work" / PROFILE / "stamps" / jobs.state()
else:
    CONTRACTS, JOBS = contract.below(ONLY), {}
    PENDING = (config["pending"] or "").split()
    STAMPS = ROOT / "work" / PROFILE / "stamps"
SOURCES = STAMPS / "sources"


def executed(notebook):
    return ROOT / "notebooks" / PROFILE / f"{notebook.name}.ipynb"


def group(case):
    """Return what shares a process with a case, which is dear to start: its part of a series, or none on a cluster."""
    return case if EACH else "/".join(case.split("/")[: 1 if TINY else 2])


def seats(name):
    """Return the cores that a group of cases takes: one, or all beside a GPU and where one computes on two threads."""
    if EACH:
        return min(CORES, JOBS[name].threads)
    return CORES if GPUS or any(f"{PROFILE} {case}" in ON_ALL for case in PENDING if group(case) == name) else 1


def stamps(notebook):
    return sorted({STAMPS / f"{group(case)}.done" for case in PENDING if notebook.reads(case)})


def earlier(wildcards):
    """Return the stamps of the cases that a case reads."""
    return [STAMPS / f"{name}.done" for name in (JOBS[wildcards.group].after if EACH else ())]


def asked(name):
    """Return what a job asks a cluster for, more at each further attempt; on this machine nothing is asked for."""

    def amount(wildcards, attempt):
        return attempt * getattr(JOBS[wildcards.group], name)

    return amount if EACH else None


def asked_by(notebook):
    """Return memory and minutes of a notebook's job."""
    found = jobs.of_notebook(notebook, JOBS, TINY)
    return {"mem_mb": found.memory, "runtime": found.minutes}


rule all:
    default_target: True
    input:
        [executed(notebook) for notebook in CONTRACTS],


localrules:
    sources,  # where the network is


rule sources:
    output:
        touch(str(SOURCES)),
    params:
        command=lambda _: f"{PYTHON} -m lib.sources.setup",
    shell:
        "{params.command} 2>&1 > /dev/null"


# Cases compute on the threads that they name: nearly all on one, side by side; those of two, timing among them, alone.
rule cases:
    input:
        SOURCES,
        earlier,
    output:
        touch(f"{STAMPS}/{{group}}.done"),
    wildcard_constraints:
        group=r"\d_.+",
    params:
        tally=lambda wildcards: last_runs.tally(PROFILE, wildcards.group).absolute(),
        cases=lambda wildcards: [case for case in PENDING if group(case) == wildcards.group],
        threads=lambda wildcards: ONE_THREAD if seats(wildcards.group) == 1 else "",
        command=lambda _: f"{PYTHON} -m lib.running.catalogue run --profile {shlex.quote(PROFILE)} --rows {'all' if EACH else shlex.quote(ROWS)} --only",
    threads: lambda wildcards: seats(wildcards.group)
    resources:
        gpu=GPUS,
        **({"mem_mb": asked("memory"), "runtime": asked("minutes")} if EACH else {}),
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
            os.path.relpath(NOTEBOOK.notebook),
        output:
            executed(NOTEBOOK),
            [os.path.relpath(paths.work_figures(PROFILE) / file) for file in NOTEBOOK.files],
        params:
            command=lambda _, notebook=shlex.quote(str(NOTEBOOK.notebook)): (
                f"{ONE_THREAD if TINY else ''}{PYTHON} -m lib.running.execution {notebook}"
                f" --profile {shlex.quote(PROFILE)}" + (" --record" if int(config.get("record", 0)) else "")
            ),
        threads: 1 if TINY or NOTEBOOK.load == "light" else CORES
        resources:
            gpu=GPUS,
            **(asked_by(NOTEBOOK) if EACH else {}),
        shell:
            "{params.command} 2>&1"
