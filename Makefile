PYTHON ?= python3
.PHONY: install
install: .venv/.installed
.venv/.installed: requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --require-hashes -r requirements-dev.txt
	.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
