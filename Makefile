# make demo    the whole story on text found in this Python (no network after installation)
# make test    every test, in an environment of its own
# make check   format, lint, types, the house's own rules
# make bench-laws   laws, choice, transfer and optimization beside their peers (twenty minutes on 2 cores; see docs/benchmarks.md);
#                   ARGS='--only regmix --law additive --fast' runs a part of it
# make bench-stream   the stream beside mosaicml-streaming, Grain, LitData and Hugging Face datasets
# make bench-train    our loop beside transformers.Trainer, populations beside single processes; more with a GPU
# make bench-faults   kill -9 at random moments over tokenize, sweep and train, on ranks and on Ray
# make bench-tokens   what tokenizing costs, and kills of it
# make bench-curate   filters, dedup and the whole of curation beside datatrove, Data-Juicer and datasketch (Debian's packages
#                     for the corpus); ARGS='--scale 5100': ours alone on 5 GB
#
# TORCH_INDEX=URL  takes torch from another package index (the CPU-only or a CUDA one; see README)

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
TORCH_INDEX ?=
ARGS ?=
LAWS = benchmarks/.envs/laws
STREAM = benchmarks/.envs/stream
SETUP = pyproject.toml constraints.txt

.PHONY: demo test test-long check format bench bench-laws bench-stream bench-train bench-faults bench-tokens bench-curate clean

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

bench-stream: $(STREAM)/.ready
	$(STREAM)/bin/python -m benchmarks.stream $(ARGS)

bench-train: $(VENV)/.all
	$(BIN)/python -m benchmarks.train $(ARGS)

bench-faults: $(VENV)/.all
	$(BIN)/python -m benchmarks.faults $(ARGS)

bench-tokens: $(VENV)/.demo
	$(BIN)/python benchmarks/tokens_cost.py $(ARGS)

bench-curate: $(VENV)/.all
	TORCH_INDEX=$(TORCH_INDEX) $(BIN)/python -m benchmarks.curate $(ARGS)

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

$(STREAM)/.ready: $(SETUP)
	$(PYTHON) -m venv $(STREAM)
	$(STREAM)/bin/python -m pip --disable-pip-version-check install -q $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' constraints.txt)"
	$(STREAM)/bin/python -m pip --disable-pip-version-check install -q "$$(grep '^torch==' constraints.txt)" torchvision -e . mosaicml-streaming==0.13.0 litdata==0.2.76 datasets==5.0.1 grain==0.2.18
	@touch $@
