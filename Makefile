# Set-up and daily work. Everything is installed into .venv, again only when what it is made from has changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := [train,dev]
DEMO := $(if $(wildcard $(READY)),$(VENV),$(VENV)-demo)

# uv reads neither pip's settings nor, by itself, the machine's certificates: it is told of both.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export UV_SYSTEM_CERTS ?= 1

# On a build server the page is tested in a browser; anywhere else only if there is one.
BROWSER := $(if $(CI),browser)

.DEFAULT_GOAL := help
.PHONY: help demo run test test-slow chaos hostile cheats family ray gallery check lock clean browser

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	while IFS='|' read -r target words; do printf '%-16s %s\n' "$$target" "$$words"; done

demo: ## play a night in a minute: digests, card, report, chart and page; needs no torch
	@$(MAKE) -s VENV=$(DEMO) $(if $(filter $(VENV),$(DEMO)),,EXTRAS=) $(DEMO)/.ready
	@$(DEMO)/bin/python -m tests.demo

run: $(READY) ## start the bot; without a terminal: a few experiments, the report, the end
	@if [ -t 0 ] && [ -t 1 ]; then exec $(BIN)/autoresearch up; \
	else exec $(BIN)/autoresearch up --exit-when-done </dev/null; fi

test: $(READY) $(BROWSER) ## run the tests
	@$(BIN)/python -m pytest -q --workers 8

test-slow: $(READY) ## run the tests that take minutes
	@$(BIN)/python -m pytest -q -m slow

chaos: $(READY) ## kill everything at random for ten minutes (LANES=4: with so many lanes), look for losses
	@LANES=$(or $(LANES),1) $(BIN)/python -m tests.chaos

hostile: $(READY) ## train a hundred hostile programs, print what stopped each
	@$(BIN)/python -m tests.hostile

cheats: $(READY) ## try a hundred edits that cheat and some honest ones, print what caught each
	@$(BIN)/python -m tests.cheats

family: $(READY) ## walk through each shape of repository, from doctor to three experiments
	@$(BIN)/python -m tests.family

ray: $(READY) ## train on a Ray cluster on this machine (installs Ray) whose node, bot and head are killed
	@$(BIN)/python -c 'import ray' 2>/dev/null || $(BIN)/uv pip install -q -p $(BIN)/python -c constraints.txt -e '.[ray]'
	@$(BIN)/python -m tests.ray_cluster

gallery: $(READY) ## print what each platform shows of a recorded night; the page and charts go to FOLDER=
	@$(BIN)/python -m tests.gallery $(FOLDER)

check: $(READY) ## ruff and mypy, without changing anything
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@$(BIN)/mypy

lock: $(READY) ## renew constraints.txt, the versions that everybody gets
	@env -u UV_FIND_LINKS $(BIN)/uv pip compile -q --no-config --no-annotate --upgrade --universal \
		--python-version 3.11 --all-extras --custom-compile-command "make lock" pyproject.toml -o constraints.txt

clean: ## remove the environment and all caches of this checkout
	@rm -rf $(VENV) $(VENV)-demo .venv-newest .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

browser:
	@command -v chromium >/dev/null || ! command -v apt-get >/dev/null || [ "$$(id -u)" != 0 ] || { \
		echo "Installing Chromium for the tests of the page"; \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 || true; }

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Python 3.11 or newer is needed: install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) lacks its venv module: install it (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(BIN)/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); }
	@echo "Installing the bot$(if $(EXTRAS), and what a training needs)"
	@: "$${UV_FIND_LINKS:=$$($(BIN)/pip config get global.find-links 2>/dev/null)}"; \
	{ $(BIN)/pip install -qq uv && $(BIN)/uv pip install -q $(if $(EXTRAS),--compile-bytecode) -p $(BIN)/python \
		-c constraints.txt -e '.$(EXTRAS)'; } || { \
		echo "Once more with pip, because uv could not do it; this takes minutes"; \
		$(BIN)/pip install -qq -c constraints.txt -e '.$(EXTRAS)'; }
	@touch $@
