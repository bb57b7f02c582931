# The two commands that do everything on a fresh machine: `make run` and `make test`. Needs Linux, bash, make, Python 3.11 or newer.
#
#   PYTHON=…     the interpreter to make .venv with (takes effect when .venv is made; `make clean` removes it)
#   TOPOLOGY=…   what `make run` serves
#   ARGS=…       handed on to the command

SHELL := bash
TOPOLOGY ?= examples/demo/topology.yaml
ARGS ?=
export PYTHON

.DEFAULT_GOAL := help
.PHONY: help run test check format bench fuzz soak clean

help: ## Show this list
	@sed -nE 's/^([a-z]+): ## (.*)/make \1\t\2/p' Makefile | expand -t 16

run: ## Install what is needed, then serve the demo at http://127.0.0.1:8080 (Swagger UI at /docs, live page at /console)
	@scripts/install core
	@exec .venv/bin/portico serve "$(TOPOLOGY)" $(ARGS)

test: ## Install what is needed, then run all tests
	@scripts/install dev
	@exec .venv/bin/python -m pytest $(ARGS)

check: ## Format, lint, types and import contract, as CI runs them
	@scripts/install dev
	@exec scripts/check

format: ## Format the code, and mend what the linter can mend
	@scripts/install dev
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

bench: ## Measure what the README claims about speed
	@scripts/install dev
	@exec .venv/bin/python benchmarks/run.py $(ARGS)

fuzz: ## The property tests at length, and gateways driven from their own OpenAPI documents (ARGS=seconds)
	@scripts/install dev
	@exec scripts/fuzz $(ARGS)

soak: ## The demo under load for five minutes, with crashes and kills (ARGS=seconds)
	@scripts/install dev
	@exec .venv/bin/python benchmarks/soak.py $(ARGS)

clean: ## Remove the environment and everything that was made
	rm -rf .venv .node .pytest_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
