PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
READY  := $(VENV)/.ready

.PHONY: help demo test lint lock clean
help: ## what can be made here
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/'

demo: $(READY) ## run the real node on a generated road and record what it sees
	$(BIN)/eomt-ext demo $(ARGS)

test: $(READY) ## the whole test suite
	$(BIN)/python -m pytest $(ARGS)

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: $(READY) ## resolve requirements.lock anew
	$(UV) pip compile --universal --python-version 3.10 --generate-hashes --no-annotate --no-header \
	    --all-extras --no-emit-package eomt-ext-ros setup.py training/pyproject.toml -o requirements.lock

clean: ## remove the environment and what was generated
	rm -rf $(VENV) build install log demo_output *.egg-info training/*.egg-info

$(READY): requirements.lock setup.py setup.cfg package.xml training/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(UV) pip install --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation -e . -e training
	@touch $@
