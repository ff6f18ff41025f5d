BIN := .venv/bin

.PHONY: run install develop check test versions browsers lint bench docs lock image

# Install only what the service needs. The first Python 3.11 or newer on the PATH is used, or PYTHON=/path/to/python.
install:
	@./install.sh requirements.lock

run: install
	@exec $(BIN)/speechbridge serve

# Build the image that runs the service or the recognizer. DOCKER=podman builds it with Podman; IMAGE is its name.
DOCKER ?= docker
IMAGE ?= speechbridge
BASES := $(foreach base,PYTHON_IMAGE CADDY_IMAGE REDIS_IMAGE,$(if $($(base)),--build-arg $(base)=$($(base))))

image:
	$(DOCKER) build --target speechbridge --tag $(IMAGE) $(BASES) .

# Install the developers' tools, too.
develop:
	@./install.sh requirements-dev.lock

# Lint and the unit tests, in half a minute: run it before each commit. Four processes, as most tests wait for something.
# Python may cache the compiled tests here: that saves half of their start. Hypothesis tries a fifth of `test`'s inputs.
check: export PYTHONDONTWRITEBYTECODE :=
check: lint
	$(BIN)/python -m pytest -q -n 4 --dist loadfile --durations=5 -p no:schemathesis --hypothesis-profile=quick \
	  -m "not slow and not browser and not chaos"

# Four tests at a time compete for the CPU, and one may exceed its time limit: the few that fail run again, alone.
test: develop
	@rm -f .failed
	$(BIN)/python -m pytest -n 4 --dist loadfile -m "not other_browser and not other_version" --failed-to=.failed || \
	  { test -s .failed && echo "again, alone:" && $(BIN)/python -m pytest @.failed; }

# Test with older versions of clients' packages, each installed in an environment of its own.
versions: develop
	$(BIN)/python -m pytest -m other_version tests/compat

# Test the page in Firefox and WebKit, if they are installed. One test at a time: each browser draws with all cores.
browsers: develop
	$(BIN)/python -m pytest -m other_browser tests/system/page tests/compat

lint: develop
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: develop
	$(BIN)/python -m tests.bench

# Build the pages of docs/ as a site, in site/, after updating the tables that are generated from the code.
docs: export NO_MKDOCS_2_WARNING := 1
docs: develop
	$(BIN)/python -m tests.reference
	$(BIN)/mkdocs build --strict

# Write both lock files from pyproject.toml: one for the service, one with the developers' tools. Only this target needs
# uv. Pinned versions stay as they are, unless UPGRADE=--upgrade is given.
COMPILE := uv pip compile --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-header \
	--no-annotate --no-emit-index-url $(UPGRADE) pyproject.toml

lock:
	$(COMPILE) --group dev --all-extras --output-file requirements-dev.lock
	$(COMPILE) --group build --extra workers --constraint requirements-dev.lock --output-file requirements.lock
