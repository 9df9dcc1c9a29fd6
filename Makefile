# make sweep: the main job.  make test: the tests.  Everything lives in .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: sweep test test-long test-gpu check format bench clean

sweep: .venv/lab
	$(BIN)/lab sweep sweeps/ladder.yaml --baseline previous

test: .venv/dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -m "not gpu and not long"

test-long: .venv/dev
	$(BIN)/python -m pytest -m "not gpu" --hypothesis-profile=new

test-gpu: .venv/dev
	$(BIN)/python -m pytest -m gpu

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/dev
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv

.venv/lab: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -q -e .
	touch $@

.venv/dev: .venv/lab
	$(BIN)/pip install --disable-pip-version-check -q -e '.[dev]'
	touch $@
