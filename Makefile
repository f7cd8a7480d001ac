# make run   install, write a small twin, build everything, print where the report is
# make test  install, run the tests
# make test-slow  the proofs that take minutes
# make dev   the Dagster UI over what make run built
# make check formatting, lint, types, SQL style, whether sql/README.md is up to date
# make docs  write sql/README.md from the files beside it

PYTHON ?= python3
HOME_FOLDER := $(CURDIR)/.qilin
BIN := .venv/bin
# Twenty thousand files, of which a tenth is ever imported, are compiled as they are met.
PIP_OPTIONS := --quiet --no-compile

export QILIN_DATA ?= $(HOME_FOLDER)/twin
export QILIN_LAKE ?= $(HOME_FOLDER)/lake
# A lake at an address has no folder for Dagster's record of runs.
export DAGSTER_HOME ?= $(if $(findstring ://,$(QILIN_LAKE)),$(HOME_FOLDER)/dagster,$(QILIN_LAKE)/.dagster)

.PHONY: run test test-slow dev check docs clean

run: .venv/installed
	test -e $(HOME_FOLDER)/twin/twin.json || $(BIN)/qilin twin $(HOME_FOLDER)/twin
	$(BIN)/qilin build
	@echo "The report:"
	@$(BIN)/qilin report

test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m slow

dev: .venv/installed
	mkdir -p $(DAGSTER_HOME)
	test -e $(DAGSTER_HOME)/dagster.yaml || cp dagster.yaml $(DAGSTER_HOME)/
	$(BIN)/dg dev

check: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --num-workers 2 qilin_dagster models
	$(BIN)/sqlfluff lint --processes 2 sql
	$(BIN)/python -m qilin_dagster.catalog_page --check

docs: .venv/installed
	$(BIN)/python -m qilin_dagster.catalog_page

clean:
	rm -rf .venv .qilin

.venv/created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/created pyproject.toml
	$(BIN)/pip install $(PIP_OPTIONS) --editable .
	@touch $@

.venv/installed-dev: .venv/created pyproject.toml
	$(BIN)/pip install $(PIP_OPTIONS) --editable '.[dev]'
	@touch $@ .venv/installed
