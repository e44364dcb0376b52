# aesedge: what one types every day. `make help` lists it; docs/install.md explains it.
# Plain enough for GNU make 3.81, which macOS ships.

-include local.mk # this machine's own choices, such as ORT = cuda

VENV ?= .venv
# ONNX Runtime's build: cpu or cuda; without a wish, what is installed stays
ORT ?= $(or $(patsubst $(VENV)/.ort-%,%,$(wildcard $(VENV)/.ort-*)),cpu)
# How to compile llama.cpp (-DGGML_CUDA=on), or where its wheels lie instead (then nothing is compiled)
CMAKE_ARGS ?=
WHEEL_INDEX ?=
# What `make kernels` builds: cpu, cpu-asan, cuda or metal
PRESET ?= cpu
# CUDA's name of one kind of card for `make install-cuda`, such as 90; by default that of this machine
CUDA_ARCH ?=
# An index with a smaller torch than PyPI's for Linux, which brings CUDA
TORCH_INDEX ?=
# The photo of `make run`
PHOTO ?= aesedge/samples/china.jpg
# More for the command behind `make test` (ARGS='-k prompt -x') and `make run` (ARGS=--json)
ARGS ?=

PYTHON_VENV := $(VENV)/bin/python
PIP := $(PYTHON_VENV) -m pip --disable-pip-version-check
LLAMA := $(shell sed -n 's/^ *"\(llama-cpp-python[^"]*\)".*/\1/p' pyproject.toml)
LLAMA_BUILD := $(strip $(CMAKE_ARGS) $(WHEEL_INDEX))
export CMAKE_ARGS
export PYTHON
export CUDA_ARCH
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell getconf _NPROCESSORS_ONLN)

# Asked for another build of llama.cpp than the one that is installed: install it anew, past pip's cache, which
# does not know one build from another. Without a wish, what is installed stays.
LLAMA_AGAIN :=
ifneq ($(LLAMA_BUILD),)
ifneq ($(LLAMA_BUILD),$(strip $(shell cat $(VENV)/.llama 2>/dev/null)))
LLAMA_AGAIN := --no-cache-dir --force-reinstall
.PHONY: $(VENV)/.llama
endif
endif
LLAMA_PIP := --no-deps $(LLAMA_AGAIN) $(if $(WHEEL_INDEX),--extra-index-url $(WHEEL_INDEX) --only-binary llama-cpp-python)

# CMakePresets.json holds each backend's flags: $(call preset,cuda,CMAKE_ARGS). Make calls itself with them; the + lets
# that happen under `make -n` too, which then shows all that would be done.
preset = $(shell CUDA_ARCH=$(CUDA_ARCH) $(firstword $(wildcard $(PYTHON_VENV)) $(PYTHON) python3) .ci/preset $(1) $(2))
nvcc = $(or $(CUDACXX),$(shell command -v nvcc 2>/dev/null),$(wildcard /usr/local/cuda/bin/nvcc))
install = $(MAKE) --no-print-directory $(VENV)/.run ORT=$(call preset,$(1),ORT) \
    CMAKE_ARGS="$(call preset,$(1),CMAKE_ARGS)" WHEEL_INDEX=

# The matrix kernels of aesedge/kernels for the installed ggml, in some seconds; without a compiler nothing happens.
BUILD_KERNELS = @$(PYTHON_VENV) -m aesedge.kernels

.PHONY: help run test lint types check format kernels startup vision wheel clean install-cpu install-cuda install-metal

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1 \2/p' Makefile | awk '{ name = $$2; $$1 = $$2 = ""; printf "  make %-14s%s\n", name, $$0 }'
	@echo "Settings: PHOTO=my.jpg  PRESET=cuda  CUDA_ARCH=90  WHEEL_INDEX=URL  TORCH_INDEX=URL  PYTHON=python3.12"

run: $(VENV)/.run ## score and describe a photo: make run PHOTO=my.jpg
	@$(VENV)/bin/aesedge run $(ARGS) $(if $(PHOTO),"$(PHOTO)")

install-cpu: ## compile llama.cpp for this CPU
	+@$(call install,cpu)

install-cuda: ## compile llama.cpp for NVIDIA cards, take ONNX Runtime's CUDA build; CUDA_ARCH=90 picks a kind of card
	@[ -n "$(nvcc)" ] || { echo "missing: nvcc. Install the CUDA toolkit (developer.nvidia.com/cuda-downloads), or" \
	    "name its nvcc: make install-cuda CUDACXX=/path/to/nvcc" >&2; exit 1; }
	+@CUDACXX="$(nvcc)" $(call install,cuda)

install-metal: ## compile llama.cpp for Apple's GPUs
	@[ "$$(uname -s)" = Darwin ] || { echo "Metal is macOS's; here there are: make install-cpu, make install-cuda" >&2; exit 1; }
	+@$(call install,metal)

test: $(VENV)/.dev ## run all tests
	@$(PYTHON_VENV) -m pytest $(ARGS)

lint: $(VENV)/.dev ## check style and formatting
	@$(PYTHON_VENV) -m ruff check .
	@$(PYTHON_VENV) -m ruff format --check .

types: $(VENV)/.dev ## check types: strict on aesedge, relaxed on export
	@$(PYTHON_VENV) -m mypy
	@$(PYTHON_VENV) -m mypy export

check: lint types test ## lint, types and tests

format: $(VENV)/.dev ## format the code and fix what can be fixed
	@$(PYTHON_VENV) -m ruff format .
	@$(PYTHON_VENV) -m ruff check --fix .

kernels: $(VENV)/.llama ## build and check the native benchmarks (CMake 3.25); PRESET=cuda, metal or cpu-asan for others
	@CMAKE_PREFIX_PATH=$$($(PYTHON_VENV) -c 'import sysconfig; print(sysconfig.get_path("platlib"))') \
	    cmake --workflow --preset $(PRESET)

startup: $(VENV)/.run ## time what users wait for: import, score, run, from process start to exit
	@$(PYTHON_VENV) tests/measure/measure_startup.py

vision: $(VENV)/.dev ## time the vision graph at full size: fp32, fp16, int8
	@$(PYTHON_VENV) tests/measure/measure_vision.py

wheel: $(VENV)/.run ## build dist/*.whl
	@rm -rf build/lib build/bdist.* dist # setuptools would put files of an earlier build into the wheel
	@$(PIP) wheel -q --no-deps --no-build-isolation -w dist .
	@rm -rf build/lib build/bdist.*
	@ls dist/*

clean: ## remove everything that these commands made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each names what is in the environment, so that a second call does nothing and needs no network.

$(VENV)/.made:
	@python=$$(sh .ci/machine $(if $(WHEEL_INDEX),--prebuilt)) && echo "Making $(VENV) with $$python" \
	    && "$$python" -m venv $(VENV)
	@touch $@

$(VENV)/.llama: $(VENV)/.made pyproject.toml
	@if [ -z "$(LLAMA_AGAIN)" ] && $(PIP) install -q --no-index --no-deps "$(LLAMA)" >/dev/null 2>&1; then touch $@; else \
	    sh .ci/machine $(if $(WHEEL_INDEX),--prebuilt) >/dev/null || exit 1; \
	    [ -n "$(WHEEL_INDEX)" ] || { \
	        echo "Installing $(LLAMA). Unless pip has it in its cache, llama.cpp is compiled now"; \
	        echo "(6.5 minutes on two cores; pip shows nothing new meanwhile). A prebuilt wheel avoids it, see docs/install.md:"; \
	        echo "  make run WHEEL_INDEX=https://abetlen.github.io/llama-cpp-python/whl/cpu"; }; \
	    $(PIP) install $(LLAMA_PIP) "$(LLAMA)" && echo "$(LLAMA_BUILD)" > $@; \
	fi

# The two builds of ONNX Runtime overwrite each other's files: the other one goes first.
$(VENV)/.ort-$(ORT): $(VENV)/.made
	@rm -f $(VENV)/.ort-*
	@$(PIP) uninstall -q -q -y onnxruntime onnxruntime-gpu
	@touch $@

$(VENV)/.run: pyproject.toml $(VENV)/.llama $(VENV)/.ort-$(ORT)
	@$(PIP) install -q "setuptools>=77"
	$(PIP) install -q --no-build-isolation -e ".[$(ORT)]"
	$(BUILD_KERNELS)
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.llama $(VENV)/.ort-$(ORT)
	@[ "$$(uname -s)" != Linux ] || [ -n "$(TORCH_INDEX)" ] || $(PYTHON_VENV) -c 'import torch' 2>/dev/null || { \
	    echo "Installing torch. PyPI's build for Linux brings some GB of CUDA libraries; for the small one:"; \
	    echo "  make test TORCH_INDEX=https://download.pytorch.org/whl/cpu"; }
	@$(PIP) install -q "setuptools>=77"
	$(PIP) install -q --no-build-isolation $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e ".[$(ORT),photo,export,dev]"
	$(BUILD_KERNELS)
	@touch $@ $(VENV)/.run
