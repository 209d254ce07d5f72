# Every target sets up .venv by itself: with uv where it is installed, else with venv and pip, at the versions of uv.lock.
#   make demo     optimize a real model, prove the result equal, print what changed
#   make test     the fast tests; slow ones too: make test PYTEST_ARGS='-m "not lowering"'
#   make test-lowering   the tests that need PyTorch, scikit-learn and TensorFlow, in .venv-lowering
#   make lint     formatting, lint rules, strict types
#   make bench    the benchmarks of tests/bench
#   make clean    remove what builds and tests leave behind; .venv stays

PYTHON3 ?= python3
# The ONNX Runtime to install: cpu or gpu. They are one module, so never both.
PROVIDER ?= cpu
PYTEST_ARGS ?=

# The build of TensorFlow for .venv-lowering: the one without GPUs is half as large. Where there is none: tensorflow.
TENSORFLOW ?= tensorflow-cpu

BIN := .venv/bin
LOWERING := .venv-lowering/bin
LOWERING_STAMP := .venv-lowering/.planish
STAMP := .venv/.planish-$(PROVIDER)
OTHER := $(if $(filter gpu,$(PROVIDER)),onnxruntime,onnxruntime-gpu)

.DEFAULT_GOAL := test
.PHONY: setup setup-lowering demo test test-lowering lint bench clean

setup: $(STAMP)

$(STAMP): pyproject.toml uv.lock
	@rm -f .venv/.planish-*
	@if command -v uv >/dev/null; then \
		echo "Setting up .venv with uv"; \
		UV_PROJECT_ENVIRONMENT=.venv uv sync --quiet --locked --extra $(PROVIDER) --extra dev; \
	else \
		echo "Setting up .venv with $(PYTHON3) and pip" && \
		{ $(PYTHON3) -c 'import tomllib' 2>/dev/null || \
			{ echo "planish needs Python 3.11 or newer, and $(PYTHON3) is none: make PYTHON3=..." >&2; exit 1; }; } && \
		{ [ -x $(BIN)/pip ] || $(PYTHON3) -m venv .venv; } && \
		$(BIN)/python .ci/constraints.py > .venv/constraints.txt && \
		$(BIN)/pip uninstall --quiet --yes $(OTHER) 2>/dev/null && \
		$(BIN)/pip install --quiet --disable-pip-version-check -c .venv/constraints.txt -e '.[$(PROVIDER),dev]'; \
	fi
	@touch $@

setup-lowering: $(LOWERING_STAMP)

$(LOWERING_STAMP): pyproject.toml uv.lock
	@rm -f $@
	@echo "Setting up .venv-lowering with $(PYTHON3) and pip"
	@[ -x $(LOWERING)/pip ] || $(PYTHON3) -m venv .venv-lowering
	@$(PYTHON3) .ci/constraints.py > .venv-lowering/constraints.txt
	@$(LOWERING)/pip install --quiet --no-compile --disable-pip-version-check -c .venv-lowering/constraints.txt \
		-e '.[cpu,dev,zoo,sklearn]' keras tf2onnx pandas $(TENSORFLOW)
	@touch $@

demo: setup
	@$(BIN)/planish demo

test: setup
	$(BIN)/pytest $(PYTEST_ARGS)

test-lowering: setup-lowering
	$(LOWERING)/pytest -m lowering $(PYTEST_ARGS)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

bench: setup
	@set -e; for bench in tests/bench/[a-z]*.py; do echo "$$bench"; $(BIN)/python "$$bench"; done

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find ir passes runtime models tests -name __pycache__ -prune -exec rm -rf {} +
