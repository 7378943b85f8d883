# make serve      the demo engines at http://127.0.0.1:8000 (PORT= to change), in .venv, without torch
# make test       what CI runs: lint, types and tests, in .venv-dev
# make test-all   the long tests too
# make demo       the demo engines anew from their checkpoints
# make docs       what the documents say of the code and print of the demo, anew
# make containers the images, built and run with podman as root, and what is said of them (VERIFY= its options)
# make locks      what the images install, anew

PYTHON ?= python3
PORT ?= 8000
TORCH ?= torch==2.13.0
# A file at a time in as many processes as there are cores, but each takes a gigabyte.
PYTEST ?= .venv-dev/bin/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
PIP_OPTIONS ?= --quiet --disable-pip-version-check

.PHONY: serve test test-all lint demo docs containers locks clean

serve: .venv/installed
	.venv/bin/sonant serve --models demo/engines --port $(PORT) \
	    --default encode=usm-spoken-words --default transcribe=hubert-ctc-english \
	    --default classify=hubert-intent-english

test: lint
	$(PYTEST)

test-all: lint
	$(PYTEST) -m "slow or not slow"

lint: .venv-dev/installed
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/mypy

# A checkpoint that comes with a probe is given it.
demo: .venv-dev/installed
	for folder in demo/checkpoints/*; do \
	    probe=; if [ -f $$folder/probe.safetensors ]; then probe="--head $$folder/probe.safetensors"; fi; \
	    .venv-dev/bin/sonant export $$folder --output demo/engines/$$(basename $$folder) $$probe --force || exit 1; \
	done

docs: .venv-dev/installed
	.venv-dev/bin/python -m server.configuration > server/SETTINGS.md
	.venv-dev/bin/python -m server.reference docs
	.venv-dev/bin/python -m tests.server.examples
	.venv-dev/bin/python -m tests.documents

containers: .venv/installed
	.venv/bin/python -m pip install $(PIP_OPTIONS) podman-compose
	PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/python -m deploy.verify $(VERIFY)

locks: .venv-dev/installed
	.venv-dev/bin/python -m pip install $(PIP_OPTIONS) uv
	.venv-dev/bin/python -m deploy.lock

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install $(PIP_OPTIONS) --editable '.[serve]'
	touch $@

# torch first and by its exact version: a range would bring the newest build with its CUDA packages.
.venv-dev/installed: pyproject.toml
	$(PYTHON) -m venv .venv-dev
	.venv-dev/bin/python -m pip install $(PIP_OPTIONS) $(TORCH)
	.venv-dev/bin/python -m pip install $(PIP_OPTIONS) --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .venv-dev
