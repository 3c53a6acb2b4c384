# Everything runs in a virtual environment of its own; nothing else needs to be installed by hand.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 5
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# uv installs the environment in a tenth of the time of pip.
INSTALL := $(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --constraint constraints.txt

# The tests start hundreds of processes. Without compiled modules, each of them would compile TickView again.
export PYTHONDONTWRITEBYTECODE :=

# The suite writes gigabytes, and its servers wait for the disk at each write. Its files are in memory where 4 GB are free:
# PostgreSQL then needs half the processor time, most of which the kernel spends on the files of its databases.
MEMORY := $(shell awk '$$2 == "/dev/shm" && $$4 !~ /noexec/' /proc/mounts 2>/dev/null | grep -q . && \
	df --output=avail /dev/shm | awk 'NR == 2 && $$1 > 4e6 {print "/dev/shm"}')
SUITE := $(if $(MEMORY),TMPDIR=$(MEMORY)) $(PYTEST)

# The core: all pure functions, the event log, projections, the archive, the web server, and traces through all roles. Its
# tests of servers run on Valkey 9 and Redis 7.0, and on PostgreSQL 15 and 18.
CORE := tests/unit $(patsubst %,tests/integration/test_%.py,eventlog eventlog_servers eventsourcing_conformance projector \
	archiver verification scans row_queries push_server web_server_contract) tests/processes/test_api_flow.py tests/processes/test_traces.py

# Every release of Python from 3.11 that is installed, also by pyenv.
PYTHONS ?= $(shell for minor in 11 12 13 14 15; do \
	for python in python3.$$minor $(HOME)/.pyenv/versions/3.$$minor.*/bin/python; do \
		if $$python -c pass >/dev/null 2>&1; then echo $$python; break; fi; \
	done; \
done)

.PHONY: run test quick lint lint-console unit integration console screenshots processes chaos soak simulation fuzz versions core benchmarks constraints clean

run: $(VENV)/run  ## All roles on this machine, with the demo producer; Ctrl-C stops them
	$(BIN)/tickview up --demo

test: $(VENV)/dev servers  ## Lint and the whole test suite on real servers, with branch coverage
	@$(MAKE) --no-print-directory --jobs=2 lint suite

# Most of the process tests is waiting, so that more workers than cores pay off. They come first: they take longest.
TESTS := $(patsubst %,tests/%,chaos console processes integration unit simulation fuzz)
.PHONY: suite
suite: $(VENV)/compiled
	$(BIN)/python -m compileall -q domain infra projections readapi
	$(SUITE) --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered $(TESTS)

quick: lint  ## In under a minute: lint, unit tests with fewer examples, one end-to-end test
	HYPOTHESIS_PROFILE=quick $(PYTEST) --numprocesses=2 tests/unit tests/processes/test_api_flow.py::test_a_read_with_the_position_of_a_write_returns_its_pattern

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if command -v npm >/dev/null && $(MAKE) --no-print-directory node_modules/installed; \
		then $(MAKE) --no-print-directory lint-console; \
		else echo "npm cannot install the tools: the console is not checked"; fi

# The console is JavaScript with types in comments. Only these checks need npm; the installed console needs none of it.
lint-console: node_modules/installed
	npm run --silent lint

node_modules/installed: package.json
	npm install --silent --no-audit --no-fund --no-package-lock
	@touch $@

unit: $(VENV)/dev  ## Pure functions
	$(PYTEST) --numprocesses=2 tests/unit

integration: $(VENV)/dev servers  ## On real servers, in the process of the test
	$(SUITE) --numprocesses=$(WORKERS) --dist=loadfile tests/integration

console: $(VENV)/dev servers  ## The console in a real browser
	$(SUITE) --no-cov tests/console

screenshots: $(VENV)/dev servers  ## The images of README.md and docs/console.md
	SCREENSHOTS=1 $(PYTEST) --no-cov tests/console/test_screenshots.py

processes: $(VENV)/dev servers  ## Real processes, real HTTP
	$(SUITE) --numprocesses=$(WORKERS) --dist=loadfile tests/processes

chaos soak: MINUTES ?= 5
fuzz: MINUTES ?= 1

chaos: $(VENV)/dev servers  ## Faults of every part for MINUTES, from SEED; and planted bugs, which must be found
	CHAOS_MINUTES=$(MINUTES) $(if $(SEED),CHAOS_SEED=$(SEED)) CHAOS_PLANTED=1 $(PYTEST) tests/chaos

soak: $(VENV)/dev servers  ## A steady load for MINUTES: memory, keys and files stay bounded. Then a backlog
	SOAK_MINUTES=$(MINUTES) $(PYTEST) -s tests/soak

simulation: $(VENV)/dev servers  ## Lags by partition: a measured run beside its simulation, and the scenarios of docs/scaling.md
	SIMULATION=1 $(PYTEST) -s --no-cov tests/simulation
	$(BIN)/python -m tests.simulation

fuzz: $(VENV)/dev servers  ## Hostile input for MINUTES per fuzzer: over HTTP, as raw bytes, and to the readers
	FUZZ_MINUTES=$(MINUTES) $(PYTEST) --no-cov tests/fuzz

versions: servers  ## The core of the suite under every installed Python from 3.11; name others in PYTHONS
	@for python in $(PYTHONS); do \
		release=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])'); echo "Python $$release"; \
		$(MAKE) --no-print-directory core PYTHON=$$python VENV=.venv-$$release || exit 1; \
	done

core: $(VENV)/dev servers
	HYPOTHESIS_PROFILE=quick $(SUITE) --numprocesses=2 --dist=loadfile --no-cov $(CORE)

benchmarks: $(VENV)/dev  ## The figures of docs/performance.md and docs/scaling.md
	$(PYTEST) tests/benchmarks

constraints: $(VENV)/dev  ## Write the versions that are installed now to constraints.txt
	$(BIN)/pip freeze --exclude-editable | sed '1i # The tested versions of all dependencies, written by `make constraints`.' > constraints.txt

.PHONY: servers
servers:  ## Redis 7.0 beside the embedded Valkey 9, and jq for the runbooks; PgBouncer, nginx and Chromium, without which tests are skipped
	@command -v redis-server >/dev/null || (apt-get update -qq && apt-get install -y -qq redis-server)
	@(PATH="$$PATH:/usr/sbin"; command -v pgbouncer >/dev/null) || apt-get install -y -qq pgbouncer >/dev/null || true
	@(PATH="$$PATH:/usr/sbin"; command -v nginx >/dev/null) || apt-get install -y -qq --no-install-recommends nginx-light >/dev/null || true
	@command -v jq >/dev/null || apt-get install -y -qq jq >/dev/null
	@command -v chromium-headless-shell >/dev/null || command -v chromium >/dev/null || apt-get install -y -qq chromium-headless-shell >/dev/null || true

$(VENV)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt uv
	@touch $@

$(VENV)/run: $(VENV)/python setup.cfg constraints.txt
	$(INSTALL) --compile-bytecode --editable '.[embedded,demo,parquet,socketio]'
	@touch $@

# Nothing is compiled here: the tests import a third of the 9,600 modules, and Python compiles what it imports.
$(VENV)/dev: $(VENV)/python setup.cfg constraints.txt
	$(INSTALL) --editable '.[embedded,demo,parquet,dev]'
	@touch $@

# One process compiles what all tests import. Without it, each worker would do so at the same time.
$(VENV)/compiled: $(VENV)/dev
	$(PYTEST) --collect-only --quiet --no-cov $(TESTS) >/dev/null
	@touch $@

clean:
	rm -rf $(VENV) .venv-3.* build dist *.egg-info
