# Two commands do all the set-up, each from nothing: `make demo` and `make test`. Both install the ONNX extra.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PACKAGE := pyproject.toml setup.py constraints.txt
export OMP_WAIT_POLICY := passive

.DEFAULT_GOAL := help
.PHONY: help demo check test slow cov docs speed lint wheel clean

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/installed  ## install, then compare five methods on scikit-learn's digits, one seed: four minutes on two cores
	$(BIN)/rgal --task kd --seeds 0

check: $(VENV)/installed-dev  ## look for faults without running the code: linter, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The types are checked while the tests run, on one of their cores; what is wrong with them is said last.
test: $(VENV)/installed-dev  ## the above, and the tests that are not marked slow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/mypy > $(VENV)/types 2>&1 & types=$$!; \
	$(BIN)/python -m pytest -m "not slow" -n auto --dist worksteal $(PYTEST); tests=$$?; \
	wait $$types; types=$$?; cat $(VENV)/types; exit $$((tests ? tests : types))

slow: $(VENV)/installed-dev  ## run the slow tests
	$(BIN)/python -m pytest -m slow

cov: PYTEST := --cov --cov-report=term:skip-covered --cov-report=html
cov: test  ## the same as test, and which lines the tests run: a table and htmlcov/index.html

docs: $(VENV)/installed-docs  ## build the site of docs/: open build/site/index.html, no network needed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

speed: $(VENV)/installed  ## time the synthesis and student steps against their floor
	$(BIN)/python -m rgal.benchmarks.speed

lint: $(VENV)/installed-dev  ## mend what the linter can, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

wheel:  ## build dist/rgal-*.whl
	rm -rf build
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir dist .

$(VENV)/installed: $(PACKAGE)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .[onnx]
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .[dev,onnx,tensorboard]
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .[docs]
	touch $@

clean:  ## remove the environment and everything that was built; results stay
	rm -rf $(VENV) build dist htmlcov .coverage .coverage.* *.egg-info
