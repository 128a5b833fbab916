# `make up` needs nothing but Python ≥ 3.11: the first target that needs it makes a virtual environment and installs into it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two test processes: most tests wait for other processes, and the machine that runs CI has two cores.
TEST_PROCESSES ?= 2

.PHONY: up test test-compose lint bench chaos clean help

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

up: $(VENV)/.installed ## Start everything with the demo endpoint; Ctrl-C stops it
	@$(BIN)/wye up --demo

test: $(VENV)/.installed-dev ## Run every test that needs no container engine
	$(BIN)/pytest -n $(TEST_PROCESSES)

test-compose: $(VENV)/.installed-dev ## Build the images and test all of Wye in containers
	$(BIN)/pytest tests/compose/checks.py --timeout 900

lint: $(VENV)/.installed-dev ## Style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev ## Measure the figures of the README
	$(BIN)/python -m benchmarks

SEED ?= 1
MINUTES ?= 5
chaos: $(VENV)/.installed-dev ## Kill, cut, update and scale under load for MINUTES=5, as SEED=1 says; print every failed request
	$(BIN)/python -m benchmarks.chaos --seed $(SEED) --minutes $(MINUTES)

clean: ## Remove what was set up, not what was served
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# What the images are built with: the newest that pyproject.toml allows, until the next time.
docker/versions.txt: pyproject.toml | $(BIN)/uv
	(echo '# Every version that the images are built with. Made from pyproject.toml by `make docker/versions.txt`.'; \
	  $(BIN)/uv pip compile --quiet --no-header --no-annotate --python-version 3.11 --extra postgres pyproject.toml) >$@.new
	mv $@.new $@

# uv installs in a quarter of pip's time; it comes from PyPI like everything else.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit("Wye needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another with make PYTHON=…") if sys.version_info < (3, 11) else None'
	@echo "Setting up $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check uv

$(VENV)/.installed: pyproject.toml | $(BIN)/uv
	@echo "Installing Wye, Envoy and MLflow …"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev]'
	@touch $@ $(VENV)/.installed
