# Two commands do all the set-up, each from nothing: `make demo` and `make test`. Both install the ONNX extra.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_WAIT_POLICY := passive

.PHONY: demo test lint slow speed clean

demo: $(VENV)/installed
	$(BIN)/python run_suite.py --task kd

test: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not slow" -n auto --dist worksteal

slow: $(VENV)/installed-dev
	$(BIN)/python -m pytest -m slow

speed: $(VENV)/installed
	$(BIN)/python -m rgal.benchmarks.speed

lint: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/installed: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .[onnx]
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .[dev,onnx,tensorboard]
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
