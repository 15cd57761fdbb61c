# `make help` lists what there is. Everything runs from .venv, which every command sets up by itself.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
KEEP ?= 1
KILLS ?= 60
FUZZ ?= 10000
ARGS ?=
JOBS ?= 4

##@ Use
.PHONY: setup
setup: ## Make .venv: afterwards .venv/bin/certorbit works (PYTHON=… names another Python 3.11+)
	@scripts/setup.sh runtime

.PHONY: demo
demo: setup ## Start the service, generate a certificate, check it; KEEP=0 stops the service at the end
	@$(BIN)/python scripts/demo.py start --keep=$(KEEP)

.PHONY: demo-stop
demo-stop: ## Stop the service that `make demo` left running
	@if [ -x $(BIN)/python ]; then $(BIN)/python scripts/demo.py stop; fi

##@ Develop
.PHONY: dev
dev: ## Make .venv with everything that development needs
	@scripts/setup.sh dev

.PHONY: test
test: dev ## Run all tests (ARGS='-k …' goes to pytest, JOBS=… at once); as root on Debian it installs missing programs first
	@scripts/install-debian.sh tests || [ $$? = 3 -a "$$CI" != true ]
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

.PHONY: test-crash
test-crash: dev ## Run the crash suite alone with 60 kills per database (KILLS=… for another number)
	@scripts/install-debian.sh tests || [ $$? = 3 -a "$$CI" != true ]
	CERTORBIT_KILLS=$(KILLS) $(BIN)/python -m pytest -m crash $(ARGS)

.PHONY: fuzz
fuzz: dev ## Fuzz every entry point with FUZZ inputs (10,000), other ones each time; takes half an hour
	CERTORBIT_FUZZ=$(FUZZ) $(BIN)/python -m pytest -p no:logging -o timeout=7200 tests/fuzz $(ARGS)

.PHONY: simulate
simulate: dev ## Simulate a year of 1,000 certificates; the last line is JSON (ARGS='--certificates 100 --seed 2')
	PYTHONPATH=tests $(BIN)/python tests/simulation/run.py $(ARGS)

.PHONY: check
check: dev ## Format, lint, types, import rules, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

.PHONY: format
format: dev ## Write the format that `make check` asks for
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: docs
docs: dev ## Write docs/settings.md from the descriptions in the code
	$(BIN)/python scripts/settings_doc.py

.PHONY: lock
lock: setup ## Write both locks anew from pyproject.toml (ARGS=--upgrade for the newest releases)
	@scripts/lock.sh $(ARGS)

.PHONY: audit-dependencies
audit-dependencies: setup ## Ask PyPI for known weaknesses of what requirements.lock names (needs the package index)
	@scripts/audit-dependencies.sh $(ARGS)

##@ Measure
.PHONY: bench
bench: bench-issuance bench-api bench-sweep bench-deploy bench-trust ## Run all benchmarks; results in benchmarks/results/

.PHONY: bench-issuance
bench-issuance: dev ## Certificates per second against Pebble, ours and our peers'
	@scripts/install-debian.sh bench || [ $$? = 3 ]
	$(BIN)/python benchmarks/issuance.py $(ARGS)

.PHONY: bench-api
bench-api: dev ## Requests per second of the API
	$(BIN)/python benchmarks/api.py $(ARGS)

.PHONY: bench-sweep
bench-sweep: dev ## Time of the renewal sweep with up to a million certificates
	$(BIN)/python benchmarks/sweep.py $(ARGS)

.PHONY: bench-deploy
bench-deploy: dev ## Time of a roll-out to 1, 10 and 100 listeners of HAProxy, under handshakes
	@scripts/install-debian.sh bench || [ $$? = 3 ]
	$(BIN)/python benchmarks/deploy.py $(ARGS)

.PHONY: bench-trust
bench-trust: dev ## Revocation lists, verdicts per second, sealing and opening of keys
	$(BIN)/python benchmarks/trust.py $(ARGS)

##@ Other
.PHONY: clean
clean: demo-stop ## Remove everything that the commands above made
	rm -rf .venv .demo .bench .setup-lock build dist .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache \
	    .import_linter_cache src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## Print this
	@awk 'BEGIN {FS = ":.*## "} \
	    /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	    /^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
