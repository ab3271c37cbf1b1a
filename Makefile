# Everything happens in .venv; nothing is needed but Python and make.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test format clean

help:
	@echo "make demo    upscale public-domain photographs into demo/"
	@echo "make test    lint, types and tests"
	@echo "make format  format the code"
	@echo "make clean   remove .venv and what the others made"

demo: .venv/installed
	$(BIN)/python examples/demo.py demo

test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

format: .venv/installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf .venv build dist demo upscaled *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
