# Needs Python 3.10 or newer and PyPI, nothing else; each target installs what it needs into $(VENV) first.
# A stamp file per install step makes a second call instant; a change of the requirements rebuilds $(VENV).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

RUNTIME := $(VENV)/.stamp-runtime
TEST := $(VENV)/.stamp-test
CHECK := $(VENV)/.stamp-check

HANDBOOK := docs/demo/handbook.txt
RANK_DEMO := HF_HUB_OFFLINE=1 $(BIN)/gliclass-rerank rank --passages $(HANDBOOK) --top-k 3

.PHONY: demo test check fix bench
.NOTPARALLEL: # pip runs into one environment

demo: $(RUNTIME)
	$(RANK_DEMO) --query "my chain slips when I pedal hard"
	$(RANK_DEMO) --query "why are my hands going to sleep on long rides"

test: $(TEST)
	$(BIN)/python -m pytest

check: $(CHECK)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pydoclint --quiet gliclass_rerank
	$(BIN)/lint-imports

fix: $(CHECK)
	$(BIN)/ruff check --fix --exit-zero . # what is left over, `make check` reports
	$(BIN)/ruff format .

bench: $(TEST)
	$(BIN)/python benchmarks/bench_throughput.py

$(RUNTIME): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' # --group
	$(PIP_INSTALL) --editable '.[eval]'
	touch $@

$(TEST): $(RUNTIME)
	$(PIP_INSTALL) --group test
	touch $@

$(CHECK): $(RUNTIME)
	$(PIP_INSTALL) --group check
	touch $@
