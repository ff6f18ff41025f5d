BIN := .venv/bin

.PHONY: run install develop check test versions browsers lint bench docs lock image

# What runs the service, and no more. Python 3.11 or newer is taken from the PATH, or from PYTHON=/path/to/python.
install:
	@./install.sh requirements.lock

run: install
	@exec $(BIN)/speechbridge serve

# One image that runs the service and the recognizer. DOCKER=podman builds it, too; IMAGE names it.
DOCKER ?= docker
IMAGE ?= speechbridge
BASES := $(foreach base,PYTHON_IMAGE CADDY_IMAGE REDIS_IMAGE,$(if $($(base)),--build-arg $(base)=$($(base))))

image:
	$(DOCKER) build --target speechbridge --tag $(IMAGE) $(BASES) .

# The same, with the developers' tools.
develop:
	@./install.sh requirements-dev.lock

# Lint and the unit tests, in half a minute: what to run before each commit. Four processes, as most tests wait.
# Half of their start is saved if Python may keep the compiled tests. Hypothesis tries a fifth of what `test` tries.
check: export PYTHONDONTWRITEBYTECODE :=
check: lint
	$(BIN)/python -m pytest -q -n 4 --dist loadfile --durations=5 -p no:schemathesis --hypothesis-profile=quick \
	  -m "not slow and not browser and not chaos"

# Four at a time they take each other's CPU, and a time limit may pass: the few that fail are run again, alone.
test: develop
	@rm -f .failed
	$(BIN)/python -m pytest -n 4 --dist loadfile -m "not other_browser and not other_version" --failed-to=.failed || \
	  { test -s .failed && echo "again, alone:" && $(BIN)/python -m pytest @.failed; }

# Older versions of clients' packages, each installed in an environment of its own.
versions: develop
	$(BIN)/python -m pytest -m other_version tests/compat

# The page in Firefox and WebKit, where they are installed. One at a time: each draws with all the cores there are.
browsers: develop
	$(BIN)/python -m pytest -m other_browser tests/system/page tests/compat

lint: develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: develop
	$(BIN)/python -m tests.bench

# The pages of docs/ as a site, in site/. First the tables that are taken from the code.
docs: export NO_MKDOCS_2_WARNING := 1
docs: develop
	$(BIN)/python -m tests.reference
	$(BIN)/mkdocs build --strict

# Both locks from pyproject.toml: what runs the service, and that with the developers' tools. Needs uv; everything else
# needs only Python and make. What is pinned already stays, unless UPGRADE=--upgrade is given.
COMPILE := uv pip compile --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-header \
	--no-annotate --no-emit-index-url $(UPGRADE) pyproject.toml

lock:
	$(COMPILE) --group dev --all-extras --output-file requirements-dev.lock
	$(COMPILE) --group build --extra workers --constraint requirements-dev.lock --output-file requirements.lock
