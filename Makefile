# The two main commands are `make paper` and `make test`. Each first makes .venv from envs/laptop.lock;
# with ENCODER_ROLES_PLATFORM=cuda in the environment, from envs/laptop.cuda.lock. Without make,
# `python3 envs/install.py` and `.venv/bin/encoder-roles paper` do the same.
# Options: STUDY=studies/<name>.yaml (a study that overrides config.yaml), CORES=<n> (default: all),
# PYTHON=<python of 3.11 to 3.13>, TESTS='-m "not slurm"' (options for pytest).

SHELL := /bin/bash
PYTHON ?= $(or $(shell command -v python3.11 || command -v python3.13 || command -v python3.12),python3)
# as envs/install.py says it
GET_PYTHON = get one with `uv python install 3.11`, `conda create -n py311 python=3.11` or `sudo apt-get install python3 python3-venv` (Debian 12 and 13), then: make paper PYTHON=<path of that python>
CORES ?= all
STUDY ?=
TESTS ?=

unexport PYTHONDONTWRITEBYTECODE  # otherwise every job compiles the package again
export PATH := $(CURDIR)/.venv/bin:$(PATH)
ifneq ($(STUDY),)
ifeq ($(wildcard $(STUDY)),)
$(error STUDY=$(STUDY): no such file)
endif
endif
snakemake = snakemake --cores $(CORES) --rerun-incomplete $(if $(STUDY),--configfile $(STUDY))

# a config that includes every rule file: variants, own scores and a checkpoint from elsewhere
every_rule = --configfile studies/laptop_connectors.yaml \
	--config 'scores={file: docs/examples/cambrian1_ensemble_table2.csv}' \
	'checkpoint={model: any, model_args: {pretrained: any}, encoders: {clip: one, sam: two}}'

.PHONY: help paper variants status verify test check format results schema rulegraph sources relock environment dry-run
.DEFAULT_GOAL := help

help:                ## list the commands
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-16s%s\n", $$1, $$2}'

paper: environment   ## run the study; draw its figures, tables, PDF and report (STUDY=studies/ci.yaml: a small study)
	@encoder-roles paper --cores $(CORES) $(if $(STUDY),--study $(STUDY))

variants: environment ## compare the variants of a study (STUDY=studies/laptop_connectors.yaml, _levels, _frozen)
	@$(snakemake) --logger study -- variants

status: environment  ## show what the run of a study has done, does and waits for
	@encoder-roles status --configs config.yaml $(STUDY)

verify: environment  ## check the results against their manifest: files, code, config and environment
	@encoder-roles verify --configs config.yaml $(STUDY)

dry-run: environment ## show what `make paper` would run
	@$(snakemake) --dry-run --quiet rules -- paper

test: environment check ## run the checks and all tests, on all cores
	@python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(TESTS)

check: environment   ## check formatting, lint, types, the layers of the package and the schema of the config
	@ruff check . && ruff format --check . && mypy && lint-imports --no-logo
	@snakefmt --check Snakefile workflow/rules && snakemake --lint $(every_rule)
	@python -m encoder_roles.study.schema --check config.schema.json

format: environment  ## format all code
	@ruff check --fix --quiet . ; ruff format . && snakefmt Snakefile workflow/rules

rulegraph: environment ## draw docs/rulegraph.svg, the rule graph (needs graphviz)
	@python docs/rulegraph.py

results: environment ## write the results that README and docs print, from studies/ (FROM=results/reference: copy its tables first)
	@python docs/results.py $(FROM)

schema: environment  ## write config.schema.json, with which editors complete and check the config
	@python -m encoder_roles.study.schema config.schema.json

sources: environment ## pretrain the laptop study's encoders and language model again, into sources/laptop
	@$(snakemake) --config sources=train gates=report --logger study -- pretrained_sources
	@cp -R results/laptop/pretrained/. sources/laptop/

relock: environment  ## compile the locks of all environments from envs/laptop.in
	@python envs/relock.py

environment:
	@command -v $(firstword $(PYTHON)) > /dev/null || { echo '$(PYTHON) is not here. Python 3.11, 3.12 or 3.13 is needed: $(GET_PYTHON)' >&2; exit 1; }
	@$(PYTHON) envs/install.py .venv
