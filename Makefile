# Two commands: `make demo` trains the examples, `make test` runs the tests.  Either makes its own environment.
PYTHON ?= python3
VENV ?= .venv
OUT ?= out
EPOCHS ?=
# Build options, such as OPTIONS="-Dlevels=v2,v3,v4 -Dcuda=enabled -Darchs=90 -Dtesting=true"; unless told, the CPU level
# of this machine alone, with what only the tests import.
OPTIONS ?= -Dlevels=native -Dtesting=true
# Where the commands run from: with `ferrox/` of this folder out of the way, Python imports what pip installed.
AWAY := cd $(VENV) &&
ROOT := $(CURDIR)
BIN := $(abspath $(VENV))/bin
WHEELS := $(abspath $(VENV))/wheels
# With WHEELHOUSE=folder everything comes from wheels there, nothing from a network.
WHEELHOUSE ?=
VENV_FLAGS ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check
FROM := $(if $(WHEELHOUSE),--no-index --find-links $(abspath $(WHEELHOUSE)))
SOURCES := $(shell git ls-files -- ferrox kernels meson.build meson.options pyproject.toml 2>/dev/null)
PYTEST = $(AWAY) $(BIN)/python -P -m pytest -c $(ROOT)/pyproject.toml --rootdir $(ROOT) --import-mode=importlib

.PHONY: demo test lint bench clean

demo: $(BIN)/.installed-examples
	$(BIN)/python examples/mlp_regressor.py --out $(OUT) $(if $(EPOCHS),--epochs $(EPOCHS))
	$(BIN)/python examples/mlp_classifier.py --out $(OUT) $(if $(EPOCHS),--epochs $(EPOCHS))

# A machine without a GPU has a simulated one, for which the kernels are compiled once.
test: $(BIN)/.installed-test
	@nvidia-smi -L > /dev/null 2>&1 || { echo "Compiling the kernels for the simulated GPU" && \
	  $(BIN)/python tools/progress.py $(VENV)/simulator.log $(BIN)/python tests/simulator/build_simulator.py; }
	$(PYTEST) -n 2 -rs $(ROOT)/tests
	$(AWAY) $(BIN)/python -P -m doctest -o ELLIPSIS $(ROOT)/docs/walk.md $(ROOT)/README.md

# PyTorch is no dependency: the files with tests against it run in an environment of their own, with the same wheel.
.PHONY: test-torch
TORCH := $(abspath $(VENV))-torch
test-torch: $(BIN)/.installed-test
	test -x $(TORCH)/bin/python || $(PYTHON) -m venv $(TORCH)
	$(TORCH)/bin/python -m pip install --quiet torch==2.13.0 scikit-learn
	$(TORCH)/bin/python -m pip install --quiet --force-reinstall --no-deps $(WHEELS)/*.whl
	$(TORCH)/bin/python -m pip install --quiet "$$(echo $(WHEELS)/*.whl)[test]"
	cd $(TORCH) && bin/python -P -m pytest -c $(ROOT)/pyproject.toml --rootdir $(ROOT) --import-mode=importlib -n 2 -rs \
	  $$(git -C $(ROOT) grep -lE "torch|sklearn" -- "tests/**/test_*.py" "tests/test_*.py" | sed "s|^|$(ROOT)/|")

# A wheel for others: every CPU level, CUDA kernels for all architectures, what it links to repaired by auditwheel; then
# installed into an environment of its own and tried there.  libgomp stays the system's: a copy under another name would
# be a second pool of threads beside everybody else's.
.PHONY: wheel
DIST := $(OUT)/wheel
RELEASE := -Dcuda=enabled
wheel: $(BIN)/.tools-wheel
	rm -rf $(DIST)
	@echo "Compiling Ferrox with all that a wheel holds; the log is $(VENV)/wheel.log"
	@PATH="$(BIN):$$PATH" $(BIN)/python tools/progress.py $(VENV)/wheel.log $(PIP) wheel --verbose --no-deps \
	  --no-build-isolation -Cbuild-dir=$(abspath $(VENV))/build-wheel $(RELEASE:%=-Csetup-args=%) --wheel-dir $(DIST)/raw .
	PATH="$(BIN):$$PATH" $(BIN)/auditwheel repair --exclude libgomp.so.1 --wheel-dir $(DIST) $(DIST)/raw/*.whl
	$(PYTHON) -m venv $(DIST)/env
	$(DIST)/env/bin/python -m pip install --quiet $(FROM) "$$(echo $(abspath $(DIST))/*.whl)[test]"
	$(DIST)/env/bin/python tools/check_wheel.py $(DIST)/*.whl
	cd $(DIST)/env && bin/python -P -m pytest -c $(ROOT)/pyproject.toml --rootdir $(ROOT) --import-mode=importlib -n 2 \
	  $(SAMPLE:%=$(ROOT)/tests/%)
	@ls -l $(DIST)/*.whl
SAMPLE := autograd core/test_gemm.py core/test_interchange.py core/test_threads.py nn ops/test_out.py test_io.py \
  test_import.py cuda/test_driver.py cuda/test_dense.py

# Calls of everything public with arguments of every wrong kind; a failure names its seed, and the call to make again.
.PHONY: fuzz
CALLS ?= 1000000
SEED ?= 0
fuzz: $(BIN)/.installed-test
	$(AWAY) nice -n 15 $(BIN)/python $(ROOT)/tests/fuzz.py --calls $(CALLS) --seed $(SEED) --jobs 2

# The suite under AddressSanitizer and UndefinedBehaviorSanitizer, and what computes in threads under ThreadSanitizer:
# builds of their own in $(VENV)-address and $(VENV)-thread, results in out/sanitize (tools/sanitize.py).
SANITIZED := address-build address thread-build thread
.PHONY: sanitize $(SANITIZED:%=sanitize-%) installed-test
sanitize:
	for stage in $(SANITIZED); do $(MAKE) sanitize-$$stage || failed="$$failed $$stage"; done; \
	  cat $(OUT)/sanitize/summary.txt; test -z "$$failed"

$(SANITIZED:%=sanitize-%): sanitize-%:
	$(PYTHON) tools/sanitize.py $* --venv $(VENV) --out $(OUT)/sanitize

installed-test: $(BIN)/.installed-test

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

# On a machine with a GPU, in stages that each end within their own time (tools/gpu.py) and write to out/gpu as they go.
# Without a network: `make gpu-wheels WHEELHOUSE=folder` where there is one, then WHEELHOUSE=folder with what follows.
# VENV_FLAGS=--system-site-packages lets the environment see the machine's own PyTorch.
STAGES := build kernels registry bench sanitize
.PHONY: gpu $(STAGES:%=gpu-%) gpu-installed gpu-wheels
gpu:
	for stage in $(STAGES); do $(MAKE) gpu-$$stage || failed="$$failed $$stage"; done; \
	  cat $(OUT)/gpu/summary.txt; test -z "$$failed"

$(STAGES:%=gpu-%): gpu-%:
	$(PYTHON) tools/gpu.py $* --venv $(VENV) --out $(OUT)/gpu

gpu-installed: $(BIN)/.installed-test $(BIN)/.installed-bench

gpu-wheels: $(BIN)/python
	$(BIN)/python tools/requirements.py --extras test bench > $(VENV)/wheels.txt
	$(PIP) download --dest $(WHEELHOUSE) --requirement $(VENV)/wheels.txt

$(BIN)/python:
	@echo "An environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV_FLAGS) $(VENV)

# A real installation, not an editable one: one wheel, made again when a source or an option changes (the build folder
# stays, so that little is compiled twice), with the extras of each command.
$(BIN)/.tools-build: pyproject.toml $(VENV)/.options | $(BIN)/python
	@echo "Installing what the build needs"
	@$(BIN)/python tools/requirements.py $(OPTIONS) > $(VENV)/build.txt
	@$(PIP) install --quiet $(FROM) --requirement $(VENV)/build.txt
	@touch $@

$(WHEELS)/.built: $(SOURCES) $(BIN)/.tools-build
	@echo "Compiling Ferrox; the log is $(VENV)/build.log"
	@rm -rf $(WHEELS)
	@PATH="$(BIN):$$PATH" $(BIN)/python tools/progress.py $(VENV)/build.log $(PIP) wheel --verbose --no-deps \
	  --no-build-isolation -Cbuild-dir=$(abspath $(VENV))/build $(OPTIONS:%=-Csetup-args=%) --wheel-dir $(WHEELS) $(ROOT)
	@$(PIP) install --quiet $(FROM) --force-reinstall --no-deps $(WHEELS)/*.whl
	@touch $@

# The options of the last build: written again only when they change.
.PHONY: always
$(VENV)/.options: always | $(BIN)/python
	@echo "$(OPTIONS)" | cmp --silent - $@ || echo "$(OPTIONS)" > $@

$(BIN)/.installed-%: $(WHEELS)/.built
	@echo "Installing what Ferrox needs, and [$*]"
	@$(PIP) install --quiet $(FROM) "$$(echo $(WHEELS)/*.whl)[$*]"
	@touch $@

$(BIN)/.tools-wheel: pyproject.toml | $(BIN)/python
	$(BIN)/python tools/requirements.py $(RELEASE) > $(VENV)/release.txt
	$(PIP) install --quiet $(FROM) --requirement $(VENV)/release.txt auditwheel
	touch $@

# The linters need no Ferrox.
$(BIN)/.tools-lint: Makefile | $(BIN)/python
	$(PIP) install --quiet $(FROM) "ruff>=0.6" "cython-lint>=0.16" "clang-format~=23.1"
	touch $@

clean:
	rm -rf $(VENV) $(TORCH) $(VENV)-address $(VENV)-thread $(OUT)
