# The verbs of this project; `make` alone lists them.
PYTHON ?= python3
PROFILE ?= cpu
RUN := .venv/bin/python

# What a user passes reaches the commands as it was written, through the environment: neither make nor a shell expands it.
override PYTHON := $(value PYTHON)
override PROFILE := $(value PROFILE)
override ONLY := $(value ONLY)
override FRESH := $(value FRESH)
override SET := $(value SET)
override AGAINST := $(value AGAINST)
override BACKBONE := $(value BACKBONE)
export PYTHON PROFILE ONLY FRESH SET AGAINST BACKBONE

# What the user has set for a Python, Jupyter or numeric library of their own is not for this one: lib/machine/variables.py.
FOREIGN := PYTHON% IPYTHON% JUPYTER% MPL% MATPLOTLIB% TRANSFORMERS_% NPY_% GOMP_% KMP_% MKL_% OPENBLAS_% DNNL_% ONEDNN_% ATEN_%
unexport $(filter-out PYTHON %_NUM_THREADS,$(filter $(FOREIGN),$(.VARIABLES)))
export PYTHONUTF8 := 1
export PYTHONNOUSERSITE := 1

.DEFAULT_GOAL := help
.PHONY: help environment setup reproduce test fuzz check-all lab smoke notebooks prove mutants rehearsal bench lint site lock clean distclean

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

environment:
	@command -v "$$PYTHON" > /dev/null || { echo "error: $$PYTHON: not found: install Python 3.11 to 3.13 or set PYTHON" >&2; exit 1; }
	@"$$PYTHON" -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else "error: this is Python %d.%d: run make PYTHON=... with one of 3.11 to 3.13" % v)'
	@"$$PYTHON" -m lib.machine.installation

setup: environment ## create .venv from the lock; fetch models and texts into data/external
	@$(RUN) -m lib.sources.setup

reproduce: setup ## run the notebooks (ONLY=... some), renew figures/; FRESH=1 (core) or all: from scratch; SET=... try
	@$(RUN) -m lib.running.reproduce --profile="$$PROFILE" $${ONLY:+--only="$$ONLY"} $${FRESH:+--fresh="$$FRESH"} $${SET:+--set="$$SET"}

test: setup ## the tests, and every notebook against its stored outputs
	@$(RUN) -m pytest -n 2 --dist loadgroup $(ARGS)

fuzz: setup ## the property tests alone, on fresh random examples (in `make test` they are always the same)
	@$(RUN) -m pytest -n 2 --dist loadgroup -m hypothesis --hypothesis-profile fresh $(ARGS)

check-all: setup ## all tests: those of make test, and more of the same
	@$(RUN) -m pytest -n 2 --dist loadgroup -m "thorough or not thorough" $(ARGS)

lab: setup ## open the notebooks in JupyterLab
	@$(RUN) -m lib.running.kernels

smoke: setup ## every notebook, from scratch, in tiny sizes
	@rm -rf build/smoke
	@REPRODUCTION_WORK_ROOT="$$PWD/build/smoke" $(RUN) -m lib.running.reproduce --profile smoke

notebooks: setup ## record the committed notebooks (ONLY=... some) again, and the READMEs' tables
	@$(RUN) -m lib.running.reproduce --profile cpu --record $${ONLY:+--only="$$ONLY"}

prove: setup ## stamp records anew where tiny twins prove that a change gives the same bits; AGAINST=commit before
	@$(RUN) -m lib.running.catalogue prove --profile cpu --rows all --against="$${AGAINST:-HEAD}"

mutants: setup ## change losses, routers, metrics and verdicts in 400 places: which changes does no test notice
	@test -x build/mutation/venv/bin/cosmic-ray || { $(PYTHON) -m venv build/mutation/venv && \
		build/mutation/venv/bin/python -m pip install --quiet cosmic-ray==8.7.0; }
	@build/mutation/venv/bin/python tests/mutation/draw.py build/mutation/drawn.json
	@$(RUN) tests/mutation/run.py

rehearsal: setup ## every notebook (ONLY=... some) in `paper` on tiny stand-ins for its models and files
	@$(RUN) -m tests.rehearsal.run $${ONLY:+"$$ONLY"}

bench: setup ## time training, sampling and the choice of candidates against plain code, and what each series costs
	@$(RUN) -m lib.benchmarks.infodiffusion
	@$(RUN) -m lib.benchmarks.diffusion_parts
	@$(RUN) -m lib.benchmarks.beacons
	@$(RUN) -m lib.benchmarks.lemoe
	@$(RUN) -m lib.benchmarks.distillation

lint: environment ## check style, notebooks too, which room imports which, types, and the tables of the READMEs
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@mkdir -p build
	@.venv/bin/lint-imports --no-cache > build/lint_imports.log 2>&1 || { sed -n '/^Contracts$$/,$$p' build/lint_imports.log; \
		echo "error: a room imports one that it may not: move the import or what it needs; the rules stand in pyproject.toml" >&2; exit 1; }
	@$(RUN) -m mypy
	@$(RUN) -m lib.running.readme --check

# Made beside .venv, which stays as it is; what changes the lock makes it anew.
build/site-venv/complete: docs/requirements.lock
	@rm -rf build/site-venv
	@"$$PYTHON" -m venv build/site-venv
	@echo "installing what builds the site into build/site-venv"
	@build/site-venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement docs/requirements.lock
	@touch $@

site: build/site-venv/complete ## build the site from the committed outputs into build/site; nothing is run
	@rm -rf build/site
	@build/site-venv/bin/python docs/pages.py build/site-source
	@build/site-venv/bin/python -m sphinx --jobs 2 --fail-on-warning --keep-going --quiet --builder html --conf-dir docs build/site-source build/site
	@echo "open build/site/index.html, or serve it: python -m http.server --directory build/site"

# No hashes: with them pip takes only the registry's torch, a CPU wheel beside it never, and wants CUDA's packages listed too.
lock: ## write both locks again from pyproject.toml; ARGS=--upgrade for newer versions
	@"$$PYTHON" -m venv build/uv && build/uv/bin/python -m pip install --quiet uv==0.13.9
	@cp requirements.lock build/requirements.lock
	@build/uv/bin/uv pip compile pyproject.toml --extra reproduction --extra notebooks --extra test --universal --python-version 3.11 --quiet $(ARGS) \
		--no-header --no-annotate --no-emit-index-url --output-file build/requirements.lock
	@# Without what only the CUDA build of torch needs: torch itself pins that, and the lock accepts the CPU build too.
	@grep -vE '^(cuda|nvidia|triton)' build/requirements.lock > requirements.lock
	@build/uv/bin/uv pip compile --group site --universal --python-version 3.11 --quiet $(ARGS) \
		--no-header --no-annotate --no-emit-index-url --output-file docs/requirements.lock

clean: ## remove build/ and the caches of tools; keeps .venv, sources and trained weights
	@rm -rf build .snakemake .pytest_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## also remove .venv, data/external and data/cache, which must then be fetched or trained again
	@rm -rf .venv data/external data/cache *.egg-info
