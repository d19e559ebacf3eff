# Thin: everything here is one command that could be typed by hand.
PYTHON ?= python3.11
PIP = .venv/bin/python -m pip
DISTRIBUTIONS = -e . $(foreach folder,$(sort $(dir $(wildcard plugins/*/pyproject.toml))),-e $(folder))

.PHONY: install dev demo test coverage lint types startup campaigns

install: .venv/installed
dev: .venv/developing

.venv/installed: pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)
	$(PYTHON) -m venv --upgrade-deps .venv
	$(PIP) install --constraint constraints.txt $(DISTRIBUTIONS)
	touch $@

.venv/developing: .venv/installed
	$(PIP) install --constraint constraints.txt --group dev
	touch $@

demo: install
	.venv/bin/python examples/drug_qa/make_records.py
	.venv/bin/python examples/drug_qa/make_model.py
	.venv/bin/prism run examples/drug_qa/sais_foundation.yaml

test: dev
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

coverage: dev
	.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=term

lint: dev
	.venv/bin/ruff check .

types: dev
	.venv/bin/mypy

startup: install
	.venv/bin/python benchmarks/startup.py

# Hours on two cores; `make campaigns SHARE=0.05` does a twentieth of the trials.
SHARE = 1
campaigns: dev
	.venv/bin/python -m campaigns --share $(SHARE) > campaigns.jsonl || failed=1; \
	.venv/bin/python -m campaigns.table campaigns.jsonl; exit $${failed:-0}
