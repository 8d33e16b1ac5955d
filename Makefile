# Start with `make demo` or `make test`. Each creates .venv if it doesn't exist.
PYTHON ?= python3
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
CONSTRAINTS ?= -c constraints.txt
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS)

.PHONY: demo test test-all check docs web bench paper release clean

demo: .venv/.runtime
	$(BIN)/openxclip classify samples --model mini --labels-file samples/labels.txt --top 3

# Tests every feature at least once, in a few minutes on two cores. Tests marked slow (full-size models, killed
# processes, compilers, whole trainings) run in `make test-all` and in plain `pytest`.
test: .venv/.dev
	$(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 8 --dist worksteal

test-all: .venv/.docs
	$(BIN)/python -m pytest

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation site in site/, checked: links, symbols, docstrings, menus, other hosts.
docs: .venv/.docs
	$(BIN)/python scripts/docs/build.py

# The page of `openxclip serve`, from web/ into src/openxclip/serve/static. Needs Node; the same sources give the same bytes.
web:
	cd web && npm ci && npm run build

bench: .venv/.dev
	$(BIN)/openxclip bench --threads 2 --out benchmarks/bench.json

paper: .venv/.dev
	$(BIN)/python scripts/paper.py --out runs/paper

# The sdist and the wheel in dist/, checked: contents, metadata, changelog, and the wheel alone in a fresh environment.
release: .venv/.runtime
	$(PIP) -e '.[release]'
	$(BIN)/python scripts/release.py

clean:
	rm -rf .venv build dist site .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.runtime: pyproject.toml constraints.txt
	@echo "Setting up .venv (once, a minute or two)"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -e .
	@touch $@

.venv/.dev: .venv/.runtime
	$(PIP) -e '.[dev]'
	@touch $@

.venv/.docs: .venv/.dev
	$(PIP) -e '.[dev,docs]'
	@touch $@
