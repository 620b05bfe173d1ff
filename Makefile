# The commands of the project. Each does its own set-up in .venv.
.DEFAULT_GOAL := help
.PHONY: help demo test check bench proto format clean

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
ROOMS := trust privacy models console node coordinator regulator sandbox
PIP := $(BIN)/pip --disable-pip-version-check --quiet
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1

help:
	@echo "make demo    five synthetic clusters, one bank, one regulator: a verified private scorecard"
	@echo "make test    every test"
	@echo "make check   format, lint, types, import contracts, proto drift, tests (what CI runs)"
	@echo "make bench   figures of speed and memory, into bench/results.json (about ten minutes)"
	@echo "make proto   generate the protobuf code again"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)

# What the demo needs: no torch, no test tools.
$(VENV)/.sandbox: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing Hejin into $(VENV) (about a minute)"
	$(PIP) install -c constraints.txt -e '.[sandbox]'
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing Hejin and its test tools into $(VENV) (about two minutes; torch is 190 MB)"
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.sandbox

demo: $(VENV)/.sandbox
	$(BIN)/hejin demo

test: $(VENV)/.dev
	$(BIN)/pytest

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check
	$(BIN)/pytest

bench: $(VENV)/.dev
	$(BIN)/python -m bench

proto: $(VENV)/.dev
	$(BIN)/python protos/generate.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
