# Every target makes the environment it needs: a clone and `make test` are enough.
PYTHON ?= python3.11
WORKERS ?= 2
BIN := .venv/bin
STAMP := .venv/.installed
# One torch thread per test worker and for the demo: small networks gain little from more, and on a machine that has
# other work threads wait for each other at every layer.
ENVIRONMENT := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slow lint type layers bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(STAMP) ## make .venv and install the tool into it, editable, with exact pins

# torch goes first and alone: its exact pin then decides which build everything else is installed against.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(STAMP) ## the main job on the bundled student and pictures
	OMP_NUM_THREADS=1 $(BIN)/lspdmobile demo

test: $(STAMP) ## the quick tests
	$(ENVIRONMENT) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-slow: $(STAMP) ## the tests that take more than 20 seconds each
	$(ENVIRONMENT) $(BIN)/python -m pytest -m slow

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(STAMP) ## mypy --strict on the three packages and the tests
	$(BIN)/mypy

layers: $(STAMP) ## import-linter: who may import whom
	$(BIN)/lint-imports

bench: $(STAMP) ## the timings: every step of an export, and the MIL executor beside PyTorch
	$(BIN)/python benchmarks/export_time.py
	$(BIN)/python benchmarks/mil_executor.py

clean: ## remove what the targets made
	rm -rf .venv build dist *.egg-info runs .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
