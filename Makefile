# Everything a developer runs. Needs a POSIX shell, GNU make and Python 3.11 or later; the first run fetches the rest.

VENV = .venv
BIN = $(VENV)/bin
UV = uv==0.13.8

PYTHONS = python3.14 python3.13 python3.12 python3.11 python3
SERVES = import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --custom-compile-command "make lock"

.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test test-deploy golden lint unit simulate integration long fuzz test-defences chaos soak servers docs bench lock clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/servers ## run the whole system on this machine; INPUT=file.jsonl for your own requests, KEEP=1 to leave it running, FAULTS=1 (a seed) for a storm
	$(BIN)/penstock demo $(if $(INPUT),--input "$(INPUT)") $(if $(KEEP),--keep) $(if $(FAULTS),--faults "$(FAULTS)")

test: lint $(VENV)/servers ## everything that must pass: lint, then unit tests, simulation, integration tests
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not long" tests/unit tests/simulation tests/integration

test-deploy: $(VENV)/development $(VENV)/servers ## the image and the chart on real machinery; needs Go, podman, runc and debootstrap
	$(BIN)/python -m tests.deploy.tools
	$(BIN)/python -m pytest tests/deploy

golden: $(VENV)/development ## render the chart anew for review, after a change of it
	$(BIN)/python -m tests.deploy.rendering

lint: $(VENV)/development ## style, types and the contracts between the modules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

unit: $(VENV)/development ## the tests without servers
	$(BIN)/python -m pytest tests/unit

simulate: $(VENV)/development ## days of the stages' logic in milliseconds each: SEEDS=100000 of them, from SEED=0 on
	$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),10000) --seed $(or $(SEED),0)

integration: $(VENV)/development $(VENV)/servers ## the tests on a real Kafka and Postgres
	$(BIN)/python -m pytest -n 3 --dist worksteal -m "not long" tests/integration

long: $(VENV)/development $(VENV)/servers ## what takes minutes by its nature: ten minutes without a broker, 50,000 bad lines
	$(BIN)/python -m pytest --timeout 1800 --durations 0 tests/long
	$(BIN)/python -m pytest --timeout 1800 --durations 0 -m long tests/simulation tests/integration

fuzz: $(VENV)/development ## messages by chance through intake's parser: INPUTS=1000000 of them, by SEED=0
	$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),1000000) --seed $(or $(SEED),0)

test-defences: $(VENV)/development $(VENV)/servers ## switch each defence off in turn: a test must then fail
	$(BIN)/python -m tests.defences.sweep

soak: $(VENV)/development $(VENV)/servers ## three replicas while everything fails, MINUTES=30 of it; SEED=… repeats a run
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),30) $(if $(SEED),--seed "$(SEED)")

chaos: $(VENV)/development $(VENV)/servers ## strike every failpoint in every way; ONLY=NAME for one
	$(BIN)/python -m tests.chaos $(if $(ONLY),--only "$(ONLY)")

servers: $(VENV)/servers ## a Kafka and a Postgres to run the service against, until Ctrl-C
	$(BIN)/python -m penstock.embedded

docs: $(VENV)/development ## write the reference pages and the chart's schema and table anew
	$(BIN)/python -m tests.support.reference
	$(BIN)/python -m tests.support.chart
	$(BIN)/python -m tests.outcomes.page

bench: $(VENV)/development $(VENV)/servers ## measure throughput
	$(BIN)/python -m tests.benchmark

lock: $(BIN)/python ## resolve all dependencies anew
	$(INSTALL) $(UV)
	$(COMPILE) --upgrade --all-extras --group dev pyproject.toml -o requirements/development.lock
	$(COMPILE) -c requirements/development.lock --all-extras --group build pyproject.toml -o requirements/demo.lock
	$(COMPILE) -c requirements/development.lock --extra simulator pyproject.toml -o requirements/simulator.lock
	$(COMPILE) -c requirements/development.lock pyproject.toml -o requirements/service.lock
	$(COMPILE) -c requirements/development.lock --group build -o requirements/build.lock
	$(COMPILE) --group deploy -o requirements/deploy.lock
	$(MAKE) $(VENV)/demo
	$(BIN)/python -m penstock.embedded.jars --lock

clean: ## remove what was installed and generated here
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis dist
	find service tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp is newer than what it was made from, so that nothing is fetched or asked for again until that changes.

$(BIN)/python:
	@for python in $(PYTHONS); do \
	  if $$python -c '$(SERVES)' 2>/dev/null; then exec $$python -m venv --clear $(VENV); fi; \
	done; \
	echo "Python 3.11 or later with venv is missing: apt install python3-venv, brew install python, or python.org" >&2; \
	exit 1

$(VENV)/demo: $(BIN)/python requirements/demo.lock pyproject.toml
	@echo "Installing the locked dependencies into $(VENV)"
	@$(INSTALL) --require-hashes -r requirements/demo.lock
	@$(INSTALL) --no-index --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/servers: $(VENV)/demo service/penstock/embedded/kafka.lock
	@$(BIN)/python -m penstock.embedded.jars
	@touch $@

$(VENV)/development: $(VENV)/demo requirements/development.lock
	@echo "Installing the locked development tools into $(VENV)"
	@$(INSTALL) --require-hashes -r requirements/development.lock
	@touch $@
