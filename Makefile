# The system's Python only makes the virtual environment; everything else happens inside it.
PYTHON ?= python3
BIN := .venv/bin
LOCK := cd $(CURDIR) && $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

.PHONY: run test check docs channels bench soak fuzz mutants lock clean

run: .venv/run
	$(BIN)/roost run

# Most tests wait for servers: four at once, each file in one process, take half the time on two cores.
test: .venv/dev
	$(BIN)/python -m pytest -n 4 --dist loadfile

check: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tests/typecheck.py

docs: .venv/dev
	$(BIN)/python tests/reference.py

# Run every channel against every scenario, and write what was proven.
channels: .venv/dev
	ROOST_PROOFS=$$(mktemp -d) $(BIN)/python -m pytest -q -n 4 --dist loadfile tests/channels/test_conformance_*.py

bench: .venv/dev
	PYTHONPATH=tests $(BIN)/python -m bench

# Tens of thousands of messages with faults; ROOST_KILLS=200 for many kills.
soak: .venv/dev
	PYTHONPATH=tests $(BIN)/python -m soak
	ROOST_KILLS=200 $(BIN)/python -m pytest -s tests/test_kill.py

# Look for updates that do harm, for so many seconds each; what is found stays in tests/fuzz/corpus. Linux only.
SECONDS ?= 20
TARGET ?=
fuzz: .venv/fuzz
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(SECONDS) $(TARGET)

# Take each defence of docs/threat-model.md away and see a test fail; WORDS=web for some of them.
mutants: .venv/dev
	$(BIN)/python tests/mutants.py $(WORDS)

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

.venv/fuzz: .venv/dev
	$(BIN)/uv pip install -q --group fuzz
	@touch $@

# Newer versions of what we depend on; commit the result.
lock: .venv/dev
	$(LOCK) pyproject.toml -o requirements.lock
	$(LOCK) --extra all --group dev pyproject.toml -o requirements-dev.lock

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
