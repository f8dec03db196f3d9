# Every target sets up what it needs: a bare clone and Python 3.11+ are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Of the tests: one takes what needs Ray, which mostly waits, the others share the rest.
PROCESSES ?= 3

.PHONY: help setup demo test faults lint bench proto clean

help:
	@echo "make demo    corpus, CLIP, hash functions, index, endpoint, answers: a few minutes on a laptop"
	@echo "make test    lint, types, and every test but those of"
	@echo "make faults  nodes, drivers and stores that are killed for minutes"
	@echo "make lint    ruff and mypy only"
	@echo "make bench   the measured commands"
	@echo "make proto   compiles serving/wire/search.proto"
	@echo "make setup   only the virtual environment"

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml deploy/constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "xhash-ray needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; name another with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint deploy/constraints.txt --editable ".[dev]"
	@touch $@

demo: setup
	$(BIN)/xhash demo $(ARGS)

test: lint
	$(BIN)/python -m pytest -n $(PROCESSES) --durations=20 $(ARGS)
	@echo "not among these: what is killed for minutes, see make faults"

faults: setup
	$(BIN)/python -m pytest -m "faults or slow" $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --constraint deploy/constraints.txt --editable ".[bench]"
	$(BIN)/xhash bench hamming --codes 1e7 --bits 64 --queries 1,64 --distribution random --against faiss
	$(BIN)/xhash bench hamming --codes 1e7 --bits 64 --queries 1,64 --distribution clustered --against faiss
	$(BIN)/xhash bench hamming --codes 1e7 --bits 128 --queries 1,64 --distribution clustered --against faiss
	$(BIN)/xhash bench evaluation
	$(BIN)/xhash bench training --pairs 100000 --epochs 2
	$(BIN)/xhash bench extract
	$(BIN)/xhash bench encode

proto: setup
	$(BIN)/python -m grpc_tools.protoc -I xhash_ray/serving/wire --include_imports \
		--descriptor_set_out=xhash_ray/serving/wire/search.binpb xhash_ray/serving/wire/search.proto

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
