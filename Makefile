# All that a person runs. Each target installs what it needs into .venv, once.
PYTHON ?= python3.11
ROWS ?= 2000
BIN := .venv/bin
export PYTHONWARNINGS ?= ignore::SyntaxWarning
# Bytecode is kept in .venv: without it each start of a program costs seconds.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1|\2/' | column -t -s '|'

# --no-compile halves the installation. What each start imports is compiled at its end, on all cores; the rest by Python at its first use.
COMPILED := prefect pydantic sqlalchemy alembic fastapi beartype redis rich psycopg botocore moto/core
.venv/installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found: install Python 3.11 (Debian: apt-get install python3.11 python3.11-venv) or say make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) has no venv module: apt-get install python3.11-venv"; exit 1; }
	@echo "installing into .venv from requirements.lock (about 90 s, once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@cd "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" && "$(CURDIR)/$(BIN)/python" -m compileall -q -j 0 $(COMPILED) || true
	@touch $@

install: .venv/installed  ## make .venv from requirements.lock

demo: .venv/installed  ## the nightly backup end to end on embedded parts (ROWS=2000 sizes the sample)
	@$(BIN)/nightshift demo --rows $(ROWS)

demo-release: .venv/installed  ## a good release, a bad one and a killed one on a Kubernetes cluster (KUBECONFIG, or kube-lab beside the checkout)
	@$(BIN)/nightshift demo-release

try: .venv/installed  ## the same platform, left running until Ctrl-C
	@$(BIN)/nightshift try --rows $(ROWS)

up: .venv/installed  ## a Prefect server, a worker and the webhooks' receiver on this machine, kept running until `make down`
	@$(BIN)/nightshift up

down: .venv/installed  ## end what `make up` started
	@$(BIN)/nightshift down

test: .venv/installed  ## all tests that need nothing but this checkout
	@$(BIN)/python -m pytest -q -n 3 --dist loadgroup -m "not services and not cluster" tests

test-services: .venv/installed  ## tests against servers from Debian's packages (installs them when root)
	@sh tests/services/install.sh
	@$(BIN)/python -m pytest -q -n 3 --dist loadgroup -m "services and not platform" tests

# Velero's tests by themselves: the controllers that other tests start play Velero, too.
# A cluster that nothing else of value lives in: the tests make and remove a namespace of their own, and Pods that a node can pull the image of.
test-cluster: .venv/installed  ## tests against a disposable Kubernetes cluster (KUBECONFIG)
	@[ -n "$$KUBECONFIG" ] || { echo "make: set KUBECONFIG to a disposable cluster's"; exit 1; }
	@$(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "cluster and not platform" --ignore=tests/cluster/test_velero.py tests/cluster
	@$(BIN)/python -m pytest -q -m "cluster and not platform" tests/cluster/test_velero.py

# Whole platforms, from their start to their end, and what a person does with them: an hour in all.
test-platform: .venv/installed  ## this machine's server over an upgrade, the UI in a browser; releases through server and worker on a cluster (KUBECONFIG)
	@sh tests/services/install.sh commands
	@$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "services and platform" tests
	@[ -n "$$KUBECONFIG" ] || { echo "make: set KUBECONFIG to a disposable cluster's for the rest"; exit 1; }
	@$(BIN)/python -m pytest -q -m "cluster and platform" tests/cluster

screenshots: .venv/installed  ## the pictures in docs/images, taken anew while tests use Prefect's UI (Debian's chromium)
	@sh tests/services/install.sh
	@NIGHTSHIFT_PICTURES=docs/images $(BIN)/python -m pytest -q tests/test_everyday_use.py

lint: .venv/installed  ## ruff, mypy, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

lock:  ## compile requirements.lock anew, and requirements-image.lock, its part that the image installs (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --extra local --extra image --extra dev pyproject.toml --output-file requirements.lock
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --extra image --constraint requirements.lock pyproject.toml --output-file requirements-image.lock

clean:  ## remove what the targets above made
	rm -rf .venv .nightshift .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage *.egg-info

.PHONY: help install demo demo-release try up down test test-services test-cluster test-platform screenshots lint lock clean
