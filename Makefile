# make demo    from nothing to a scored, documented model in one command
# make test    set-up, lint, types, tests
# make real    the same chain on real text:  make real REALDATA=/path/to/realdata
# make bench   what is fast, measured:  make bench REALDATA=/path/to/realdata

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   := data/pharmacopoeia
# Two at a time: many tests wait for processes of their own. tests/conftest.py says which belong together.
PYTEST := $(BIN)/pytest -n 2

.PHONY: demo test lint types test-real real bench clean

demo: $(VENV)/.installed $(DEMO)
	$(BIN)/domainlm build demo --data $(DEMO) --on threads=2

$(DEMO): $(VENV)/.installed
	$(BIN)/python -m domainlm.flows.pharmacopoeia $(DEMO)

test: $(VENV)/.installed-dev lint types
	$(PYTEST) -m "not real and not gpu"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	rm -rf build/wheel && $(BIN)/pip install -q --no-deps --target build/wheel .
	cd build/wheel && MYPYPATH=. ../../$(BIN)/mypy --config-file ../../pyproject.toml -p domainlm

# Real text: REALDATA names the directory; without it this fails.
test-real: $(VENV)/.installed-dev
	REALDATA="$(abspath $(REALDATA))" $(PYTEST) -m real

real: $(VENV)/.installed
	$(BIN)/domainlm build realdata --data "$(REALDATA)" --on workers=2 --on threads=2
	$(BIN)/domainlm build realdata-general --data "$(REALDATA)" --on workers=2 --on threads=2
	$(BIN)/domainlm build realdata-continued --data "$(REALDATA)" --on workers=2 --on threads=2

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

# Ours against what one would use instead; writes docs/benchmarks.md. On a busy machine the figures are worth nothing.
bench: $(VENV)/.installed-dev
	$(BIN)/python -m bench --realdata "$(REALDATA)"

clean:
	rm -rf build store data .mypy_cache .ruff_cache .pytest_cache
