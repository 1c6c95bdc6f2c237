# make demo   creates .venv, installs, runs a real workflow (Python 3.11 or later, nothing else)
# make test   the whole gate: format, lint, types, floors, tests; DOCKER=no leaves out what needs a Docker Engine
# make lint   the first three of these
# make bench  measures speed and memory against the limits; prints a table, writes bench.json

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
DEV := .venv/.installed-dev

.PHONY: demo test lint engine bench clean

# the tests start flowbatch hundreds of times: not each of them is to compile it anew
unexport PYTHONDONTWRITEBYTECODE

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "flowbatch needs Python 3.11 or later; set PYTHON=")'
	$(PYTHON) -m venv .venv

$(STAMP): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(DEV): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'
	touch $(STAMP) $@

demo: $(STAMP)
	$(BIN)/flowbatch --state .flowbatch run workflows/census.yaml
	$(BIN)/flowbatch --state .flowbatch logs last/merge

lint: $(DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

engine: $(DEV)
	$(BIN)/python -m tests.docker.engine

test: $(DEV)
ifeq ($(DOCKER),no)
	$(MAKE) --no-print-directory lint
	@echo 'DOCKER=no: the tests that need a Docker Engine (marker: docker) are left out'
	$(BIN)/python -m pytest -n 3 --dist worksteal -q -m 'not docker'
else
	$(MAKE) --no-print-directory -j 2 lint engine
	$(BIN)/python -m pytest -n 3 --dist worksteal -q
endif

bench: $(DEV)
	$(BIN)/python -m bench

clean:
	rm -rf .venv .flowbatch
