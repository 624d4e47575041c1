# Everything needs only make and a python3 >= 3.10; each target makes .venv and installs into it what it lacks.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --disable-pip-version-check
TORCH := torch==2.13.0
# Training frameworks are watched in an environment of their own: a job needs torch, and nothing of torchtop.
FRAMEWORKS := .venv-frameworks
WANTED := tests/frameworks/requirements.txt
# What torchtop is compared with.
PEERS := .venv-bench

# python3.11 is what attaching to torch is tested with. A pyenv shim may be on the PATH and not work: so it is run.
WORKS := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))
FOUND = $(shell for python in python3.11 python3 python3.12 python3.13 python3.10; do \
	$$python -c '$(WORKS)' 2>/dev/null && echo $$python && break; done)
NONE := no Python >= 3.10 with venv and pip was found (Debian, Ubuntu: apt install python3-venv)
PYTHON ?= $(or $(FOUND),$(error $(NONE)))

# With libgomp's default, spinning, one other busy process makes a training step many times slower.
test hygiene torture endurance bench: export OMP_WAIT_POLICY := passive
test hygiene torture endurance bench: export OMP_NUM_THREADS := 1

.PHONY: help demo test frameworks peers check lint hygiene torture endurance bench diagnosis clean
.DELETE_ON_ERROR:

help: ## list these targets
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.demo ## start a small training job and show what it does
	$(VENV)/bin/torchtop demo

test: lint frameworks ## lint, types, all tests
	$(PY) -m pytest -q -rs --durations=15

# The tests that need them are skipped, with the reason, where they cannot be installed.
frameworks: ## transformers, lightning, accelerate and a Jupyter kernel, for their tests
	@$(MAKE) --no-print-directory $(FRAMEWORKS)/.installed || echo "no $(FRAMEWORKS): its tests will be skipped"

# The benchmarks of the screen and of the peers say so where it cannot be installed.
peers:
	@$(MAKE) --no-print-directory $(PEERS)/.installed || echo "no $(PEERS): the screen will be compared with nothing"

check: lint hygiene ## lint, types, import rules; seconds
lint: $(VENV)/.test
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

hygiene: $(VENV)/.test
	$(PY) -m pytest -q tests/test_hygiene.py

torture: $(VENV)/.test ## 1,000 attach-detach cycles against each of four programs
	$(PY) benchmarks/torture.py

endurance: $(VENV)/.test ## memory over 300,000 watched steps, in job and monitor, and over 24 replayed hours of the screen
	@worst=0; for bench in endurance replay; do \
		echo "== $$bench"; $(PY) benchmarks/$$bench.py; code=$$?; \
		[ $$code -eq 0 ] || [ $$worst -eq 1 ] || worst=$$code; \
	done; exit $$worst

# All of them, whatever one says; then a bar that was exceeded (1) counts before one that was not resolved (2).
bench: $(VENV)/.test peers ## what watching, attaching and the screen cost
	@worst=0; for bench in startup overhead attach screen; do \
		echo "== $$bench"; $(PY) benchmarks/$$bench.py; code=$$?; \
		[ $$code -eq 0 ] || [ $$worst -eq 1 ] || worst=$$code; \
	done; exit $$worst

diagnosis: $(VENV)/.test peers ## does the advisor name what is planted in a job, and what do others say of it; an hour
	@worst=0; for bench in diagnosis peers; do \
		echo "== $$bench"; $(PY) benchmarks/$$bench.py; code=$$?; \
		[ $$code -eq 0 ] || [ $$worst -eq 1 ] || worst=$$code; \
	done; exit $$worst

clean: ## remove .venv and everything else that was made here
	rm -rf $(VENV) $(FRAMEWORKS) $(PEERS) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: touched only after all before went well, so a failed install is tried again.

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	@touch $@

# First and by itself: whatever else names torch then finds this build already there.
$(VENV)/.torch: $(VENV)/.venv
	$(PIP) $(TORCH) numpy
	@touch $@

$(FRAMEWORKS)/.torch:
	$(PYTHON) -m venv $(FRAMEWORKS)
	$(FRAMEWORKS)/bin/python -m pip install --disable-pip-version-check -q $(TORCH) numpy
	@touch $@

$(FRAMEWORKS)/.installed: $(FRAMEWORKS)/.torch $(WANTED)
	$(FRAMEWORKS)/bin/python -m pip install --disable-pip-version-check -q -r $(WANTED)
	@touch $@

$(PEERS)/.installed:
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --disable-pip-version-check -q $(TORCH) numpy nvitop traceml-ai gpuprof
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(PIP) -e .
	@touch $@

$(VENV)/.test: $(VENV)/.torch pyproject.toml
	$(PIP) -e ".[test]"
	@touch $@
