# make demo   install and show the whole product on this machine
# make test   install and run the whole test suite
# make lint   style and strict types
# make lock   resolve the pinned sets anew (needs uv)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO_ARGS ?=
TEST_ARGS ?=

.PHONY: demo test slow lint lock bench clean

demo: $(VENV)/.installed
	$(BIN)/tunescope demo $(DEMO_ARGS)

# Two processes; with one thread each, since threads that outnumber the cores wait for one another.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test: $(VENV)/.installed-dev
	$(PYTEST) $(TEST_ARGS)

slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow $(TEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy service tunescope trainer dashboard

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/peers.py

# torch goes first and by pip, so that a machine without a GPU takes the CPU build where one is offered.
$(VENV)/.torch:
	@echo "Making $(VENV) and installing $(TORCH) (the longest download) ..."
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(TORCH)
	@touch $@

$(VENV)/.installed: $(VENV)/.torch requirements.lock pyproject.toml
	@echo "Installing the pinned set (requirements.lock) ..."
	$(PIP) -r requirements.lock
	$(PIP) --no-deps -e .
	@$(BIN)/python -m compileall -q tunescope service trainer dashboard  # so that the first start is no slower
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@echo "Installing the test tools (requirements-dev.lock) ..."
	$(PIP) -r requirements-dev.lock
	@touch $@

# torch is left out of the locks: it is pinned above, and its build depends on the machine.
LOCK := uv pip compile pyproject.toml --quiet --python-version 3.11 --no-emit-package torch --no-annotate --no-header
lock:
	$(LOCK) --extra all -o requirements.lock
	$(LOCK) --extra all --extra dev -o requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .artifacts build *.egg-info
