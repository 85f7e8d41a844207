# make demo | test | faults | check | bench | setup          PYTHON=python3.12 chooses another interpreter
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PROJECTS := $(wildcard pyproject.toml plugins/*/pyproject.toml contrib/*/pyproject.toml)
# what the demo needs, and no more
DEMO := -e . -e plugins/transformers -e plugins/data -e plugins/lora -e plugins/sft -e plugins/evaluate
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test faults check bench setup clean help
help:
	@grep -hE '^# make|^#: ' Makefile | sed 's/^#[: ] *//'

#: make demo   set up, then tune the embedded model on the standard library's docstrings (minutes)
demo: $(VENV)/.demo
	$(BIN)/tunesmith run docs/examples/docstrings.toml

#: make test   set up everything, then run every test
test: $(VENV)/.setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q

#: make faults inject every fault of docs/reference/reliability.md into real runs, and write its table
faults: $(VENV)/.setup
	rm -f build/faults.json
	FAULTS=all OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q tests/faults
	$(BIN)/python tests/faults/report.py

#: make check  ruff and mypy
check: $(VENV)/.setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy core plugins/*/tunesmith_* contrib/*/tunesmith_*

#: make bench  the measurements that docs/reference/measurements.md reports
bench: $(VENV)/.setup
	$(BIN)/python tests/bench/startup.py
	$(BIN)/python tests/bench/threads.py
	$(BIN)/python tests/bench/checkpoint_cost.py
	$(BIN)/python tests/bench/streaming.py
	$(BIN)/python tests/bench/lines.py
	$(BIN)/python tests/bench/sft_speed.py
	$(BIN)/python tests/bench/long_attention.py
	$(BIN)/python tests/bench/quantization_error.py
	$(BIN)/python tests/bench/quantized.py
	$(BIN)/python tests/bench/qlora.py
	$(BIN)/python tests/bench/qlora_7b.py
	$(BIN)/python tests/bench/estimate.py
	$(BIN)/python tests/bench/ppo_learns.py
	$(BIN)/python tests/bench/ppo_memory.py
	$(BIN)/python tests/bench/grpo_learns.py
	$(BIN)/python tests/bench/demo.py

#: make setup  a virtual environment with the core, every plugin, and the tools
setup: $(VENV)/.setup

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tunesmith needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c constraints.txt hatchling editables setuptools
	touch $@

# the build backends are already there, so each editable install needs no environment of its own; setuptools
# builds rouge-score, which has no wheel
$(VENV)/.demo: $(VENV)/.venv constraints.txt $(PROJECTS)
	$(PIP) install -q -c constraints.txt --no-build-isolation $(DEMO)
	touch $@

$(VENV)/.setup: $(VENV)/.venv constraints.txt dev-requirements.txt $(PROJECTS)
	$(PIP) install -q -c constraints.txt --no-build-isolation -r dev-requirements.txt
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
