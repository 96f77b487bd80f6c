# Everything that is done with this project, from a fresh machine on: Python >= 3.10, a C++20
# compiler, make and pip are all that must be there. `make` lists the targets.

PYTHON ?= python3
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
LINT := .venv-lint
KVPRESS := .venv-kvpress
BIN := $(VENV)/bin
# A process for each core: a test has one thread unless it asks for more.
PYTEST = $(BIN)/python -m pytest -n auto --dist worksteal
# build, cmake, ctest and ninja are the environment's.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# One GPU architecture is enough for the tests; the package's own choice stands in CMakeLists.txt.
export CMAKE_ARGS ?= -DAIRCACHE_BUILD_TESTS=ON -DAIRCACHE_WERROR=$(if $(CI),ON,OFF) \
	-DCMAKE_CUDA_ARCHITECTURES=90

CPP := $(shell find include csrc tests bench -name '*.h' -o -name '*.cpp' -o -name '*.cu' \
	-o -name '*.cuh' 2>/dev/null)
CMAKE_LISTS := $(shell find tests -name CMakeLists.txt)
SOURCES := $(filter include/% csrc/% tests/%,$(CPP)) $(CMAKE_LISTS) $(wildcard cmake/* tests/cpp/*) \
	CMakeLists.txt setup.py pyproject.toml

# $(call step,name,commands): run them and say how long they took. Part them with `;`, which stops
# at the first that fails; with `&&` it would not.
define step
@start=$$SECONDS; echo "==> $(1)"; $(2); echo "==> $(1): $$((SECONDS - start)) s"
endef

.PHONY: help
help: ## List the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 23

# ---- environments ------------------------------------------------------------------------------

# $(call venv,folder,requirements)
define venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and \
	"$(PYTHON) is Python %d.%d, but 3.10 is needed: make PYTHON=python3.12" % sys.version_info[:2])'
$(call step,environment $(1),$(PYTHON) -m venv --clear $(1); $(1)/bin/pip install -q -r $(2))
@touch $@
endef

$(VENV)/installed: requirements/dev.txt
	$(call venv,$(VENV),requirements/dev.txt)

$(LINT)/installed: requirements/lint.txt
	$(call venv,$(LINT),requirements/lint.txt)

$(KVPRESS)/installed: requirements/kvpress.txt
	$(call venv,$(KVPRESS),requirements/kvpress.txt)

$(VENV)/built: $(VENV)/installed $(SOURCES)
	$(call step,build,$(BIN)/pip install -q --no-build-isolation --no-deps -e .)
	@touch $@

# ---- what people ask for -----------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/built ## A model answers over its full cache and over a tenth of it; demo.html shows both
	$(call step,demo,$(BIN)/python examples/demo.py)

.PHONY: demo-picture
demo-picture: $(VENV)/built ## The same, into the picture that the README shows
	$(call step,demo,$(BIN)/python examples/demo.py --output build/demo)
	cp build/demo.png docs/images/demo.png

.PHONY: build
build: $(VENV)/built ## Build and install into .venv, editable

.PHONY: test
test: $(VENV)/built ## The tests that every change must pass
	$(call step,tests,$(PYTEST) -m "not full" --durations=10)

.PHONY: test-all
test-all: $(VENV)/built ## All tests: also the long ones, sanitizers, the wheel, another processor
	$(call step,all tests,$(PYTEST) --durations=10)
	@$(MAKE) --no-print-directory simt ptx sanitize aarch64

OLDEST := build/transformers-5.4
$(OLDEST)/installed:
	$(BIN)/pip install -q --target $(OLDEST) "transformers==5.4.*"
	@touch $@

.PHONY: hf
hf: $(VENV)/built $(OLDEST)/installed ## The Hugging Face tests, newest and oldest transformers
	$(PYTEST) tests/hf
	PYTHONPATH=$(OLDEST) $(PYTEST) tests/hf

.PHONY: lint
lint: $(LINT)/installed ## Formatting, style and types
	$(call step,ruff,$(LINT)/bin/ruff check .; $(LINT)/bin/ruff format --check .)
	$(call step,clang-format,$(LINT)/bin/clang-format --dry-run -Werror $(CPP))
	$(call step,mypy,$(LINT)/bin/mypy)

.PHONY: format
format: $(LINT)/installed ## Format all sources
	$(LINT)/bin/ruff check --fix . && $(LINT)/bin/ruff format .
	$(LINT)/bin/clang-format -i $(CPP)

.PHONY: bench
bench: $(VENV)/built ## Microbenchmarks in C++, then the whole against plain torch
	cmake -S . -B build/bench -G Ninja -DAIRCACHE_CORE_ONLY=ON -DAIRCACHE_CUDA=OFF \
	  -DAIRCACHE_BUILD_BENCH=ON
	cmake --build build/bench
	$(call step,microbenchmarks,build/bench/bench/cpp/aircache_bench)
	$(call step,against torch,$(BIN)/python bench/compare_torch.py)

# Their torch may be another than the one of the build: the library's ABI is stable. The binding of
# _C is Python's, which both environments share.
.PHONY: bench-kvpress
bench-kvpress: $(VENV)/built $(KVPRESS)/installed ## Against kvpress, in its own environment
	$(call step,against kvpress,PYTHONPATH=python $(KVPRESS)/bin/python bench/compare_kvpress.py \
	  --json bench/results/compare_kvpress.json)

.PHONY: evidence-model
evidence-model: $(VENV)/built ## Train the model of the evidence: hours on two cores; goes on where it stopped
	$(call step,training,$(BIN)/torchrun --nproc-per-node 2 bench/evidence/train.py \
	  --out build/evidence)
	$(call step,release,$(BIN)/python bench/evidence/release.py --training build/evidence \
	  --out bench/evidence/weights)

.PHONY: evidence
evidence: $(VENV)/built ## Every method over the evidence's questions; goes on where it stopped
	$(call step,comparison,$(BIN)/python bench/evidence/compare.py --model bench/evidence/weights \
	  --out build/evidence/answers --json bench/results/evidence.json)

# With the environment's torch if `make build` made one, else with that of the system.
.PHONY: gpu
gpu: ## All that a GPU is to be asked: tests, sanitizers, benchmarks; RESULTS=folder
	$(PYTHON) bench/on_gpu.py $(if $(RESULTS),--results $(RESULTS))

# With the package of `make gpu`.
.PHONY: latency
latency: ## The paper's latency table on a GPU; goes on where it stopped; RUN=options
	$(PYTHON) bench/on_gpu.py --build-only
	PYTHONPATH=build/gpu/package $(PYTHON) bench/latency.py --json bench/results/latency.json $(RUN)

.PHONY: wheel
wheel: $(VENV)/installed ## Wheel and sdist into dist/
	$(call step,wheel,CMAKE_ARGS= $(BIN)/python -m build --no-isolation)

# `make test` gives every test one of the orders; here each gets all of them.
.PHONY: simt
simt: $(VENV)/built ## The CUDA kernels in the CPU executor, in every order of threads
	$(call step,orders of threads,for order in forward reverse random:1 random:2; do \
	  AIRCACHE_SIMT_ORDER=$$order $(PYTEST) -q -k simt -m "not full"; done)

.PHONY: ptx
ptx: $(VENV)/built ## The CUDA kernels as nvcc compiles them, in the CPU executor
ifeq ($(shell command -v nvcc),)
	@echo "ptx: skipped, there is no nvcc"
else
	$(call step,PTX in the executor,build=build/$$($(BIN)/python -c \
	  'import sysconfig; print(sysconfig.get_config_var("SOABI"))'); \
	  cmake --build $$build --target aircache_ptx; \
	  AIRCACHE_SIMT_LIBRARY=$$build/tests/ptx/ops/libaircache_ptx.so \
	  $(PYTEST) -q -k "simt and not test_cpp" -m "not full")
endif

# The sanitizers' runtime has to come first in the process, and Python's and torch's own leaks are
# not ours to report. A finding ends the process: only an uncaptured one is seen.
SANITIZED := build/sanitize/package
# $(call sanitized,pytest's arguments)
sanitized = PYTHONPATH=$(SANITIZED) ASAN_OPTIONS=detect_leaks=0 \
	  AIRCACHE_SIMT_LIBRARY=build/sanitize/tests/simt/ops/libaircache_simt.so \
	  LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	  $(BIN)/python -m pytest --capture=no -q $(1)
SIMT_TESTS := $(addprefix tests/test_,budgets.py decode_attention.py gather.py methods.py moments.py scores.py select.py)
.PHONY: sanitize
sanitize: $(VENV)/installed ## The ops fuzzed, the CUDA kernels executed, under sanitizers
	cmake -S . -B build/sanitize -G Ninja -DAIRCACHE_SANITIZE=ON -DAIRCACHE_CUDA=OFF \
	  -DAIRCACHE_BUILD_TESTS=ON -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python
	cmake --build build/sanitize
	rm -rf $(SANITIZED)
	cp -r python $(SANITIZED)
	rm -f $(SANITIZED)/aircache_ext/*.so
	cmake --install build/sanitize --component python --prefix $(SANITIZED)/aircache_ext
	$(call step,fuzz under sanitizers,$(call sanitized,tests/test_fuzz.py))
	$(call step,CUDA kernels under sanitizers,$(call sanitized,-k simt -m "not full" $(SIMT_TESTS)))

.PHONY: aarch64
aarch64: $(VENV)/installed ## Cross-compile the kernels for aarch64; run their tests where qemu is
ifeq ($(shell command -v aarch64-linux-gnu-g++),)
	@echo "aarch64: skipped, there is no aarch64-linux-gnu-g++"
else
	cmake -S . -B build/aarch64 -G Ninja -DAIRCACHE_CORE_ONLY=ON -DAIRCACHE_CUDA=OFF \
	  -DAIRCACHE_BUILD_TESTS=ON \
	  -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
	  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ \
	  -DCMAKE_CROSSCOMPILING_EMULATOR="qemu-aarch64;-L;/usr/aarch64-linux-gnu"
	cmake --build build/aarch64
ifeq ($(shell command -v qemu-aarch64),)
	@echo "aarch64: built but not run, there is no qemu-aarch64"
else
	$(call step,aarch64,ctest --test-dir build/aarch64 --output-on-failure)
endif
endif

.PHONY: clean
clean: ## Remove what was built, but not the environments
	rm -rf build dist $(VENV)/built python/*.egg-info python/aircache_ext/*.so
