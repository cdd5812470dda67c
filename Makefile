PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv
READY  := $(VENV)/.ready
# demo_output/ and bench_output/ are written anew; a folder that ARGS names is not.
OVERWRITE = $(if $(findstring --output,$(ARGS)),,--overwrite)

.PHONY: help demo test test-matrix lint docs site bench soak fuzz lock clean
help: ## what can be made here
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/'

demo: $(READY) ## run the real node on a generated road and record what it sees
	$(BIN)/eomt-ext demo $(OVERWRITE) $(ARGS)

test: $(READY) ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

test-matrix: $(READY) ## the suite on each Python and ROS 2; ARGS="--python 3.12 --ros jazzy -- test/ros"
	$(BIN)/python test/matrix/matrix.py $(ARGS)

lint: $(READY) ## ruff, mypy, and pip-audit where its database can be reached
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python test/audit.py

docs: $(READY) ## write the pages that are made from the code anew
	$(BIN)/python -m eomt_ext_ros.parameters.reference > docs/parameters.md.new
	mv docs/parameters.md.new docs/parameters.md
	$(BIN)/python docs/licences.py > docs/licences.md.new
	mv docs/licences.md.new docs/licences.md
	$(BIN)/python -m eomt_ext_core.evidence.limits > docs/safety.md.new
	mv docs/safety.md.new docs/safety.md
	$(BIN)/python docs/rooms.py

site: $(READY) ## build the site into site/; ARGS=serve shows it while you write
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs $(or $(ARGS),build)

bench: $(READY) ## measure speed and memory on this machine, beside the literal pipeline; writes bench_output/
	$(BIN)/eomt-ext bench $(OVERWRITE) $(ARGS)

soak: $(READY) ## drive the node for 30 minutes and look for leaks; ARGS="--minutes 5"; writes docs/reliability.md
	$(BIN)/python benchmarks/node/soak.py --write $(ARGS)

fuzz: $(READY) ## run mutated files through the commands that take them; ARGS="checkpoints --count 1000 --seed 7"
	$(BIN)/python -m benchmarks.fuzz.run $(ARGS)

lock: $(READY) ## resolve requirements.lock anew
	$(UV) pip compile --universal --python-version 3.10 --generate-hashes --no-annotate --no-header \
	    --all-extras --no-emit-package eomt-ext-ros setup.py training/pyproject.toml -o requirements.lock
	$(UV) pip compile --universal --python-version 3.10 --generate-hashes --no-annotate --no-header \
	    $(foreach name,empy lark-parser numpy pyyaml setuptools,--no-emit-package $(name)) \
	    test/matrix/jazzy.in -o test/matrix/jazzy.lock
	$(UV) pip compile --python-version 3.10 --resolution lowest-direct --no-deps --no-annotate --no-header --quiet \
	    setup.py -o test/matrix/least.in
	$(UV) pip compile --python-version 3.10 --generate-hashes --no-annotate --no-header --extra bags --extra export --extra dev \
	    --no-emit-package eomt-ext-ros -c test/matrix/least.in setup.py -o test/matrix/least.lock

clean: ## remove the environment and what was generated
	rm -rf $(VENV) .venv-matrix build install log site demo_output bench_output *.egg-info training/*.egg-info

$(READY): requirements.lock setup.py setup.cfg package.xml training/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.9
	$(UV) pip install --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation -e . -e training
	@touch $@
