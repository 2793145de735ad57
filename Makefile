# The system's Python only makes the virtual environment; everything else happens inside it.
PYTHON ?= python3
BIN := .venv/bin
LOCK := cd $(CURDIR) && $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

.PHONY: run test check docs bench soak lock clean

run: .venv/run
	$(BIN)/roost run

test: .venv/dev
	$(BIN)/python -m pytest

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/typecheck.py

docs: .venv/dev
	$(BIN)/python tests/reference.py

bench: .venv/dev
	PYTHONPATH=tests $(BIN)/python -m bench

# Tens of thousands of messages with faults; ROOST_KILLS=200 for many kills.
soak: .venv/dev
	PYTHONPATH=tests $(BIN)/python -m soak
	ROOST_KILLS=200 $(BIN)/python -m pytest -s tests/test_kill.py

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/run: requirements.lock pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/dev: requirements-dev.lock pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

# Newer versions of what we depend on; commit the result.
lock: .venv/dev
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) --extra all --group dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
