# make demo   set up .venv and run 24 held-out problems through the whole system   (ARGS="--json" for one JSON object)
# make test   set up .venv and run every check: style, types, tests
# make bench  measure methods against each other and write benchmarks/RESULTS.md   (about half an hour)
# make train  train the small family in models/ again                              (about half an hour)
# make protos write gsi/v1 and docs/job.schema.json from their sources
ARGS ?=
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench train protos clean

help:
	@sed -n 's/^# //p' Makefile | head -5

demo: $(INSTALLED)
	@$(BIN)/gsi demo $(ARGS)

test: $(INSTALLED) lint
	@$(BIN)/python -m pytest $(ARGS)

lint: $(INSTALLED)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy

bench: $(INSTALLED)
	@$(BIN)/python -m benchmarks.methods $(ARGS)

train: $(INSTALLED)
	@$(BIN)/python -m training $(ARGS)

protos: $(INSTALLED)
	@$(BIN)/python scripts/generate.py

clean:
	rm -rf .venv

# Progress goes to standard error: `make demo ARGS=--json` must print one JSON object and nothing else.
$(INSTALLED): pyproject.toml
	@PYTHON=$(PYTHON) sh scripts/setup.sh >&2
	@touch $@
