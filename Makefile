# Every command sets up what it needs, from a fresh clone, with Python 3.11+ and make only.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test lint types bench lock clean

run: $(VENV)/.gateway  ## a gateway with demo jobs, and a page to watch them
	@$(BIN)/progress-gateway demo

test: lint types  ## everything CI runs
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

bench: $(VENV)/.dev  ## the figures of bench/README.md
	$(BIN)/python -m bench

lock: $(VENV)/.dev  ## resolve the newest allowed versions into the two lock files
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --extra gateway -o requirements.lock
	$(BIN)/uv pip compile $(LOCK_OPTIONS) --extra dev -o requirements-dev.lock
LOCK_OPTIONS := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	--no-annotate --group build pyproject.toml

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* bench/build

# The editable install writes console scripts and metadata, so it runs again when pyproject.toml changes.
$(VENV)/.gateway: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing the gateway into $(VENV) (once; about half a minute) ..."
	@$(PIP) --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	@echo "Installing the gateway and its development tools into $(VENV) (once) ..."
	@$(PIP) --require-hashes -r requirements-dev.lock
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Python's venv module is missing (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
