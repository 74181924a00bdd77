# Every target makes its environment first; PYTHON names the interpreter to make it with.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Built as packages say of themselves; the other way is what old versions of pip complain about.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 \
	-c requirements/constraints.txt
# What the main job runs: three models on ListOps, which is generated, in the cpu setting.
MODELS ?= transformer,local,ernie_sparse
# Apart from the records that the repository ships: those are not to be taken for this machine's.
RESULTS ?= results/bench
# The records of the diagnostic tasks, which are in no table of results.
DIAGNOSTICS ?= results/diagnostics

.PHONY: help bench diagnostics test test-all test-page test-slurm lint format install install-dev clean

help:  ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

bench: install  ## train three models on ListOps and print the comparison table (about eight minutes)
	$(BIN)/lra-bench run -m task=listops model=$(MODELS) setting=cpu results_dir=$(RESULTS)
	$(BIN)/lra-bench leaderboard $(RESULTS)

diagnostics: install  ## repeat the runs of docs/diagnostics.md that are not there, and draw its figures
	$(INSTALL) -e ".[figures]"
	$(BIN)/lra-bench run -m task=needle 'model=glob(*)' results_dir=$(DIAGNOSTICS)
	$(BIN)/lra-bench run -m task=needle train.num_steps=3000 train.eval_every=500 \
		model=ernie_sparse,fnet,linformer,s4d,skyformer,synthesizer,mega \
		results_dir=$(DIAGNOSTICS)
	$(BIN)/lra-bench run -m task=needle train.num_steps=3000 train.eval_every=500 \
		model=ernie_sparse model.context=global_tokens results_dir=$(DIAGNOSTICS)
	$(BIN)/lra-bench run -m task=needle model=ernie_sparse model.context=none \
		results_dir=$(DIAGNOSTICS)
	$(BIN)/lra-bench run -m task=needle model=ernie_sparse model.context=global_tokens \
		model.num_representatives=1,4 results_dir=$(DIAGNOSTICS)
	$(BIN)/lra-bench run -m task=recall model=transformer results_dir=$(DIAGNOSTICS)
	$(BIN)/lra-bench run -m task=recall model=ernie_sparse model.context=representatives,none \
		results_dir=$(DIAGNOSTICS)
	$(BIN)/lra-bench run -m task=recall model=ernie_sparse train.num_steps=3000 \
		train.eval_every=500 results_dir=$(DIAGNOSTICS)
	$(BIN)/lra-bench run -m task=recall model=ernie_sparse model.context=global_tokens \
		model.num_representatives=1,4,16 results_dir=$(DIAGNOSTICS)
	$(BIN)/lra-bench run -m task=recall task.num_pairs=4 task.num_keys=4 model=ernie_sparse \
		model.context=global_tokens model.num_representatives=4 results_dir=$(DIAGNOSTICS)
	$(BIN)/python benchmarks/diagnostics.py $(DIAGNOSTICS) --to docs
	$(BIN)/python benchmarks/reach.py --to docs

test: install-dev  ## run the tests that take minutes at most
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not slow"

test-all: install-dev  ## run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test-page: install-dev  ## test the leaderboard's page in a Chromium, which is installed if there is none
	$(INSTALL) -e ".[page]"
	command -v chromium || command -v chromium-browser || command -v google-chrome \
		|| (apt-get update -q && apt-get install -y -q chromium) \
		|| $(BIN)/python -m playwright install chromium
	$(BIN)/python -m pytest tests/leaderboard/test_page_in_a_browser.py

test-slurm: install-dev  ## test sweeps on a Slurm that is started for it, and installed if there is none
	$(INSTALL) -e ".[slurm]"
	command -v slurmctld && command -v munged \
		|| (apt-get update -q && apt-get install -y -q --no-install-recommends slurm-wlm munge)
	LRA_BENCH_SLURM=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/slurm

lint: install-dev  ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: install-dev  ## put the code into form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

install: $(VENV)/.installed  ## make the environment and install the harness

install-dev: $(VENV)/.installed-dev  ## the same with what tests and checks need

clean:  ## remove the environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml requirements/constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV), about a minute"
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing what tests and checks need"
	$(INSTALL) -e ".[dev]"
	@touch $@
