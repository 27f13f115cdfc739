# Two commands do everything on a machine that has Python 3.11 or newer and make:
#
#   make serve    a durable ZooKeeper-compatible server on port 2181, data in ./data
#   make test     linters, type checker and the whole test suite
#
# Also: make bench (SIZE=smoke|real, SUITE=main|server|ensemble|all), make soak (SEEDS=n),
# make check (no tests), make clean.
# ARGS="..." is handed on: make serve ARGS="--client-port 2182", make test ARGS="-k journal -x".

VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
SIZE ?= real
SUITE ?= main
SEEDS ?= 500
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Installed again only when one of these changes; the sources themselves are installed editable.
METADATA := setup.cfg pyproject.toml zkstore/version.py

.PHONY: serve test check bench soak clean
.DELETE_ON_ERROR:

serve: $(VENV)/.installed
	@exec $(BIN)/zkstore serve --data-dir ./data $(ARGS)

# Most tests wait more than they work, so two run at a time; what measures runs alone.
test: check
ifeq ($(strip $(ARGS)),)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests
	$(BIN)/python -m pytest bench
else
	$(BIN)/python -m pytest $(ARGS)
endif

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy --strict zkstore tools bench

bench: $(VENV)/.installed-dev
	$(BIN)/python -m bench --size $(SIZE) --suite $(SUITE) $(ARGS)

soak: $(VENV)/.installed-dev
	$(BIN)/python -m tests.crash.powerloss --seeds $(SEEDS) $(ARGS)
	$(BIN)/python -m tests.crash.server_powerloss --seeds $(SEEDS) $(ARGS)
	$(BIN)/python -m tests.crash.member_powerloss --seeds $(SEEDS) $(ARGS)
	$(BIN)/python -m tests.crash.server_kills $(ARGS)
	$(BIN)/python -m tests.sim --seeds $(SEEDS)
	$(BIN)/python -m pytest -q --hypothesis-profile=soak tests/property
	$(BIN)/python -m pytest -q -m apache tests/conformance tests/tools

# The data directory is the user's and is never cleaned.
clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: $(VENV)/.created $(METADATA)
	@echo "installing zkstore into $(VENV)"
	@$(PIP) install -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created $(METADATA)
	@echo "installing zkstore with its test and development tools into $(VENV)"
	@$(PIP) install -e '.[test,dev]'
	@touch $(VENV)/.installed $@

# PYTHON=/path/to/python3 chooses the interpreter; else the first one that is new enough.
$(VENV)/.created:
	@for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "making $(VENV) with $$($$python --version)"; \
			$$python -m venv --clear $(VENV) && touch $@ && exit 0; \
			echo "zkstore: $$python cannot make a virtual environment" \
				"(on Debian and Ubuntu: apt install python3-venv)" >&2; \
			exit 1; \
		fi; \
	done; \
	echo "zkstore needs Python 3.11 or newer, and none was found." >&2; \
	echo "Install one, or name it: make PYTHON=/path/to/python3" >&2; \
	exit 1
