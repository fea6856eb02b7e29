# make demo    the whole story on text found in this Python (no network after installation)
# make test    every test, in an environment of its own
# make check   format, lint, types, the house's own rules
# make bench-laws   laws, choice, transfer and optimization beside their peers (twenty minutes on 2 cores; see docs/benchmarks.md);
#                   ARGS='--only regmix --law additive --fast' runs a part of it
#
# TORCH_INDEX=URL  takes torch from another package index (the CPU-only or a CUDA one; see README)

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
TORCH_INDEX ?=
ARGS ?=
LAWS = benchmarks/.envs/laws
SETUP = pyproject.toml constraints.txt

.PHONY: demo test test-long check format bench bench-laws clean

demo: $(VENV)/.demo
	$(BIN)/mixwright demo --folder demo

test: $(VENV)/.all
	$(BIN)/python -m pytest -n 2 -m "not long"

test-long: $(VENV)/.all
	$(BIN)/python -m pytest -n 2 -m long --timeout 1800

check: $(VENV)/.all
	$(BIN)/ruff format --check src tests examples benchmarks
	$(BIN)/ruff check src tests examples benchmarks
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/house

format: $(VENV)/.all
	$(BIN)/ruff format src tests examples benchmarks
	$(BIN)/ruff check --fix src tests examples benchmarks

bench: $(VENV)/.demo
	$(BIN)/python benchmarks/import_cost.py

bench-laws: $(LAWS)/.ready
	$(LAWS)/bin/python -m benchmarks.laws $(ARGS)

clean:
	rm -rf $(VENV) benchmarks/.envs demo build dist

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mixwright needs Python 3.11 or newer; this is $$($(PYTHON) --version). Use: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first: with an index of its own it must not be looked for elsewhere
$(VENV)/.torch: $(VENV)/.venv constraints.txt
	$(PIP) install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	@touch $@

$(VENV)/.demo: $(VENV)/.torch $(SETUP)
	$(PIP) install -q -c constraints.txt -e '.[curate,train]'
	@touch $@

$(VENV)/.all: $(VENV)/.demo $(SETUP)
	$(PIP) install -q -c constraints.txt -e '.[all,dev]'
	@touch $@

# the peers' own environment: never needed by users
$(LAWS)/.ready: $(SETUP)
	$(PYTHON) -m venv $(LAWS)
	$(LAWS)/bin/python -m pip --disable-pip-version-check install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(LAWS)/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt -e '.[lightgbm]' scikit-learn
	@touch $@
