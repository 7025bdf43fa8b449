# make demo   draws a ten-minute video, asks three questions of it, writes demo/report.html
# make test   checks the style, builds the extension, runs the tests
# make test-numerics   runs the numeric tests as on other processors, with other data (hours)
#
# Both create .venv first; `make test-vlm` has an environment of its own. VENV_SYSTEM=1 lets .venv use
# a PyTorch that the machine already has.

PYTHON ?= python3
VENV ?= .venv
VLM_VENV ?= .venv-vlm
VENV_SYSTEM ?= 0
PYTEST_ARGS ?=
NUMERICS_ARGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
SOURCES := setup.py pyproject.toml $(shell find csrc -type f)
SANITIZED_TESTS := test_sanitized.py test_similarity.py test_selection.py test_pooling.py \
  test_projected.py test_merger.py test_gradients.py test_threads.py test_properties.py \
  test_large_offsets.py
STYLE_CPP := $(shell find csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: demo test test-slow test-numerics test-vlm test-golden sanitize sanitize-threads bench lint format install clean

demo: $(VENV)/.installed
	$(BIN)/python -m vilamp.demo

test: lint
	$(BIN)/python -m pytest -m "not slow and not vlm" $(PYTEST_ARGS)

test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# The numeric tests under other kernels of torch, MKL and oneDNN, in other orders of summation and
# with other data (docs/numerics.md). A part: NUMERICS_ARGS="--seeds 1 --only sums --tests gradients"
test-numerics: $(VENV)/.installed-dev
	cd tests && PYTHONPATH="$(CURDIR)/python:$(CURDIR)" "$(abspath $(BIN))/python" -m numerics \
	  $(NUMERICS_ARGS)

# What processors of transformers make of a video's times. They need torchvision, so these tests have
# an environment of their own; what they need of this folder is Python, so nothing is built.
test-vlm: $(VLM_VENV)/.installed
	PYTHONPATH="$(CURDIR)/python:$(CURDIR)" $(VLM_VENV)/bin/python -m pytest -m vlm $(PYTEST_ARGS) \
	  tests/test_vlm_times.py tests/test_vlm_models.py tests/test_evaluation_models.py

# GOLDEN_DIR=path/to/golden: every recorded case of the published implementation
test-golden: $(VENV)/.installed-dev
	@test -n "$(GOLDEN_DIR)" || { echo "set GOLDEN_DIR to the folder of golden data"; exit 2; }
	GOLDEN_DIR="$(abspath $(GOLDEN_DIR))" $(BIN)/python -m pytest -m golden $(PYTEST_ARGS)

# The tests of the ops on an extension with AddressSanitizer and UndefinedBehaviorSanitizer, in a
# copy of the package below build/: the installed one stays as it is. Run from tests/, since Python
# looks for packages in the folder it is started from first. libstdc++ is preloaded too, or
# AddressSanitizer cannot see exceptions being thrown. -s: a report ends the process, and what pytest
# had captured would be lost with it. TRITON_INTERPRET=0 leaves out Triton, which has no C++ here.
sanitize: $(VENV)/.installed-dev
	VILAMP_SANITIZE=address,undefined $(BIN)/python setup.py -q build \
	  --build-lib build/sanitize/lib --build-temp build/sanitize/objects
	cd tests && TRITON_INTERPRET=0 VILAMP_EXPECT_MODULE_IN="$(CURDIR)/build/sanitize" \
	  PYTHONPATH="$(CURDIR)/build/sanitize/lib" \
	  LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so.6)" \
	  ASAN_OPTIONS=detect_leaks=0:halt_on_error=1 \
	  UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
	  "$(abspath $(BIN))/python" -m pytest -m "not slow" -s -p no:cacheprovider $(PYTEST_ARGS) \
	  $(SANITIZED_TESTS)

# The kernels alone, without Python, from several threads under ThreadSanitizer: every instruction
# set that the compiler and this CPU have, with the flags of setup.py.
TSAN := build/sanitize-threads
TSAN_OBJECTS := $(patsubst %.cpp,$(TSAN)/%.o,$(notdir $(wildcard csrc/cpu/*.cpp)) threads.cpp)
TSAN_FLAGS := -std=c++17 -O1 -g -fsanitize=thread -pthread
AVX2 := -mavx2 -mfma -mf16c
AVX512 := $(AVX2) -mavx512f -mavx512bw -mavx512vl -mavx512dq
known = $(shell $(CXX) $(1) -x c++ -fsyntax-only /dev/null 2>/dev/null && echo $(1))

vpath %.cpp csrc/cpu csrc/tests
$(TSAN)/kernels_avx2.o: OWN_FLAGS = $(call known,$(AVX2))
$(TSAN)/kernels_avx512.o: OWN_FLAGS = $(call known,$(AVX512))
$(TSAN)/kernels_avx512_bf16.o: OWN_FLAGS = $(call known,$(AVX512) -mavx512bf16)
$(TSAN)/%.o: %.cpp $(shell find csrc -name '*.h') Makefile
	@mkdir -p $(TSAN)
	$(CXX) $(TSAN_FLAGS) $(OWN_FLAGS) -Icsrc/include -c $< -o $@

sanitize-threads: $(TSAN_OBJECTS)
	$(CXX) $(TSAN_FLAGS) $^ -o $(TSAN)/threads
	TSAN_OPTIONS=halt_on_error=1 $(TSAN)/threads

# times every op on every provider, then writes docs/performance.md: minutes, on a quiet machine
bench: $(VENV)/.installed-dev
	$(PIP) -r requirements/bench.txt
	$(BIN)/python -m bench.ops
	$(BIN)/python -m bench.table
	$(BIN)/python -m bench.plot
	-$(BIN)/python -m bench.floors

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(STYLE_CPP)

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(STYLE_CPP)

install: $(VENV)/.installed

$(VENV)/.python:
	@echo "Creating the virtual environment $(VENV)"
	$(PYTHON) -m venv $(if $(filter 1,$(VENV_SYSTEM)),--system-site-packages) $(VENV)
	@touch $@

$(VENV)/.torch: $(VENV)/.python requirements/torch.txt
	@if [ "$(VENV_SYSTEM)" = 1 ] && $(BIN)/python requirements/have_torch.py; then :; else \
	  echo "Installing PyTorch (pinned in requirements/torch.txt)"; \
	  $(PIP) -r requirements/torch.txt; fi
	@touch $@

$(VENV)/.runtime: $(VENV)/.torch requirements/runtime.txt requirements/build.txt
	@echo "Installing what vilamp runs on (pinned in requirements/)"
	$(PIP) -r requirements/runtime.txt -r requirements/build.txt
	@touch $@

$(VENV)/.installed: $(VENV)/.runtime $(SOURCES)
	@echo "Building the C++ extension and installing this folder into $(VENV)"
	$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements/dev.txt
	$(PIP) -r requirements/dev.txt
	@touch $@

$(VLM_VENV)/.installed: requirements/runtime.txt requirements/vlm.txt
	@echo "Creating the virtual environment $(VLM_VENV), with torchvision (5.5 GB)"
	$(PYTHON) -m venv $(VLM_VENV)
	$(VLM_VENV)/bin/python -m pip install --disable-pip-version-check --quiet \
	  -r requirements/vlm.txt -r requirements/runtime.txt
	@touch $@

clean:
	rm -rf build demo *.egg-info
	find vilamp_kernels python -name '__pycache__' -prune -exec rm -rf {} +
	find vilamp_kernels -name '*.so' -delete
