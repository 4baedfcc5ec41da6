# Two commands: `make demo` trains the examples, `make test` runs the tests.  Either makes its own environment.
PYTHON ?= python3
VENV ?= .venv
OUT ?= out
EPOCHS ?=
# Build options, such as OPTIONS="-Dlevels=v3 -Darchs=90".
OPTIONS ?=
# Where the commands run from: with `ferrox/` of this folder out of the way, Python imports what pip installed.
AWAY := cd $(VENV) &&
ROOT := $(CURDIR)
BIN := $(abspath $(VENV))/bin
WHEELS := $(abspath $(VENV))/wheels
SOURCES := $(shell git ls-files -- ferrox kernels meson.build meson.options pyproject.toml 2>/dev/null)

.PHONY: demo test lint bench gpu clean

demo: $(BIN)/.installed-examples
	$(BIN)/python examples/mlp_regressor.py --out $(OUT) $(if $(EPOCHS),--epochs $(EPOCHS))
	$(BIN)/python examples/mlp_classifier.py --out $(OUT) $(if $(EPOCHS),--epochs $(EPOCHS))

test: $(BIN)/.installed-test
	$(AWAY) $(BIN)/python -P -m pytest -c $(ROOT)/pyproject.toml --rootdir $(ROOT) \
	  --import-mode=importlib -n 2 $(ROOT)/tests
	$(AWAY) $(BIN)/python -P -m doctest -o ELLIPSIS $(ROOT)/docs/walk.md $(ROOT)/README.md

lint: $(BIN)/.tools-lint
	$(BIN)/ruff check .
	PATH="$(BIN):$$PATH" $(BIN)/cython-lint $$(git ls-files "*.pyx" "*.pxd")
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files "*.h")
	$(MAKE) stubs

# The type stubs: compared with the compiled modules, and written anew.
.PHONY: stubs stubs-write
stubs: $(BIN)/.installed-lint
	$(AWAY) $(BIN)/python -P -m mypy.stubtest ferrox --concise --ignore-disjoint-bases \
	  --mypy-config-file $(ROOT)/pyproject.toml --allowlist $(ROOT)/tools/stubtest.txt

stubs-write: $(WHEELS)/.built
	$(AWAY) $(BIN)/python -P $(ROOT)/tools/stubs.py

bench: $(BIN)/.installed-bench
	$(AWAY) $(BIN)/python -P $(ROOT)/benchmarks/run.py

# On a machine with a GPU: the tests on it, once more under compute-sanitizer where that is at hand, benchmarks, the lab.
CUDA_TESTS = $(BIN)/python -P -m pytest -c $(ROOT)/pyproject.toml --rootdir $(ROOT) $(ROOT)/tests/cuda
gpu: $(BIN)/.installed-test $(BIN)/.installed-bench
	$(BIN)/python -P -c "import ferrox as fx; print(fx.cuda.why_not() or fx.cuda.get_device_properties())"
	$(AWAY) $(CUDA_TESTS)
	if command -v compute-sanitizer; then $(AWAY) FERROX_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer \
	  --error-exitcode 9 $(CUDA_TESTS) && compute-sanitizer --error-exitcode 9 $(CUDA_TESTS) -k graph; else echo "compute-sanitizer is not at hand: its run is left out"; fi
	$(AWAY) $(BIN)/python $(ROOT)/benchmarks/gpu.py
	if command -v nvcc; then $(MAKE) -C kernels/lab run; else echo "nvcc is not on PATH: the lab is left out"; fi

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

# A real installation, not an editable one: one wheel, made again when a source changes,
# with the extras of each command.
$(WHEELS)/.built: $(SOURCES) | $(BIN)/python
	rm -rf $(WHEELS)
	$(BIN)/python -m pip wheel --quiet --no-deps $(OPTIONS:%=-Csetup-args=%) --wheel-dir $(WHEELS) $(ROOT)
	$(BIN)/python -m pip install --quiet --force-reinstall --no-deps $(WHEELS)/*.whl
	touch $@

$(BIN)/.installed-%: $(WHEELS)/.built
	$(BIN)/python -m pip install --quiet "$$(echo $(WHEELS)/*.whl)[$*]"
	touch $@

# The linters need no Ferrox.
$(BIN)/.tools-lint: Makefile | $(BIN)/python
	$(BIN)/python -m pip install --quiet "ruff>=0.6" "cython-lint>=0.16" "clang-format~=23.1"
	touch $@

# PyTorch, for the tests against it; not a dependency.
.PHONY: torch
torch: | $(BIN)/python
	$(BIN)/python -m pip install --quiet torch==2.13.0

clean:
	rm -rf $(VENV) $(OUT)
