# What a developer types.  Everything runs in .venv, which `install` makes; nothing is installed outside it but, for
# root on Debian, the distribution's own venv package where it is missing.
PYTHON ?= python3
SOAK_SECONDS ?= 600
WORKERS ?= 2
TESTS ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install up test lint format proto soak bench clean

help:
	@echo "make install                 the environment: .venv/, with .venv/bin/watchword"
	@echo "make up [ARGS=...]           a three-node cluster on loopback, in the foreground"
	@echo "make test [TESTS=PATH]       lint, types, import rules and tests; or one part of the tests"
	@echo "make lint                    lint, types and import rules"
	@echo "make format                  put the source into the project's format"
	@echo "make proto                   generate watchword/v1 from proto/"
	@echo "make soak SOAK_SECONDS=600   the simulation, with fresh seeds"
	@echo "make bench [ARGS=...]        measure; results go to bench/results/"

install: .venv/.installed
.venv/.installed: requirements-dev.txt pyproject.toml tools/install.sh
	@PYTHON="$(PYTHON)" sh tools/install.sh

up: install
	@exec .venv/bin/watchword up $(ARGS)

ifeq ($(strip $(TESTS)),)
test: lint
	.venv/bin/python -m pytest -n $(WORKERS) --dist worksteal tests
else
test: install
	.venv/bin/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)
endif

lint: install
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports

format: install
	.venv/bin/ruff check --fix-only
	.venv/bin/ruff format

proto: install
	.venv/bin/python -m tools.generate_proto

soak: install
	.venv/bin/python -m tests.simulation.soak --seconds $(SOAK_SECONDS)

bench: install
	.venv/bin/python -m bench $(ARGS)

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
