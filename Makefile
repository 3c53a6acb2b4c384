# Everything runs in a virtual environment of its own; nothing else needs to be installed by hand.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: run test lint unit integration processes benchmarks clean

run: $(VENV)/run  ## Everything on this machine, with the demo producer; Ctrl-C stops it
	$(BIN)/tickview up --demo

test: lint unit integration processes  ## The whole test suite, on real servers

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/dev  ## Pure functions
	$(PYTEST) --numprocesses=2 tests/unit

integration: $(VENV)/dev redis-server  ## On real servers, in this process
	$(PYTEST) tests/integration

processes: $(VENV)/dev redis-server  ## Real processes, real HTTP; two files at a time, since most of it is waiting
	$(PYTEST) --numprocesses=2 --dist=loadfile tests/processes

benchmarks: $(VENV)/dev  ## What docs/performance.md is made from
	$(PYTEST) tests/benchmarks

.PHONY: redis-server
redis-server:  ## Redis 7.0, beside the embedded Valkey 9
	@command -v redis-server >/dev/null || (apt-get update -qq && apt-get install -y -qq redis-server)

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/run: $(VENV)/python setup.cfg
	$(BIN)/pip install --quiet --editable '.[embedded,demo,parquet]'
	@touch $@

$(VENV)/dev: $(VENV)/python setup.cfg
	$(BIN)/pip install --quiet --editable '.[embedded,demo,parquet,dev]'
	@touch $@

clean:
	rm -rf $(VENV) build *.egg-info
