# Each target sets up what it needs; nothing but Python 3.11 and a package registry is assumed.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --quiet --python

.PHONY: check demo lint test clean

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(UV) $(BIN)/python -e '.[fastapi,django,flask]' --group test --group lint
	touch $@

lint: $(VENV)/.ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf .venv* dist build .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
