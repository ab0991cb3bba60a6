# Two commands matter: `make paper` and `make test`. Both first make .venv from envs/laptop.lock, or with
# ENCODER_ROLES_PLATFORM=cuda in the environment from envs/laptop.cuda.lock.
# Options: STUDY=studies/<name>.yaml (a study that overrides config.yaml), CORES=<n> (default: all), PYTHON=<python3.11>,
# TESTS='-m "not slurm"' (options of pytest).

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
CORES ?= all
STUDY ?=
TESTS ?=

unexport PYTHONDONTWRITEBYTECODE  # every job would compile the package again
export PATH := $(CURDIR)/.venv/bin:$(PATH)
ifneq ($(STUDY),)
ifeq ($(wildcard $(STUDY)),)
$(error STUDY=$(STUDY): no such file)
endif
endif
snakemake = snakemake --cores $(CORES) --rerun-incomplete $(if $(STUDY),--configfile $(STUDY))

.PHONY: help paper variants verify report test check format schema sources relock environment dry-run
.DEFAULT_GOAL := help

help:           ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/make \1|\2/p' Makefile | awk -F'|' '{printf "%-16s%s\n", $$1, $$2}'

paper: environment   ## the whole study, then its figures, tables, PDF and report (STUDY=studies/ci.yaml: a small one)
	@$(snakemake) --logger study -- paper
	@$(snakemake) --quiet host progress rules --report $$(encoder-roles locate-results --configs config.yaml $(STUDY) --only report) -- paper
	@encoder-roles locate-results --configs config.yaml $(STUDY)

variants: environment ## the variants of a study compared (STUDY=studies/laptop_connectors.yaml, _levels, _frozen)
	@$(snakemake) --logger study -- variants

verify: environment  ## are the results what their manifest says, made by this code, config and environment?
	@encoder-roles verify --configs config.yaml $(STUDY)

dry-run: environment ## what `make paper` would do
	@$(snakemake) --dry-run --quiet rules -- paper

test: environment check ## the whole test suite
	@python -m pytest $(TESTS)

check: environment   ## formatting, lint, types and the schema of the config
	@ruff check . && ruff format --check . && mypy
	@snakefmt --check Snakefile workflow/rules && snakemake --lint && snakemake --lint --configfile studies/laptop_connectors.yaml
	@python -m encoder_roles.study.schema --check config.schema.json

format: environment  ## format all code
	@ruff check --fix --quiet . ; ruff format . && snakefmt Snakefile workflow/rules

schema: environment  ## config.schema.json, with which editors complete and check the config
	@python -m encoder_roles.study.schema config.schema.json

sources: environment ## pretrain the laptop study's encoders and language model again, into sources/laptop
	@$(snakemake) --config sources=train gates=report --logger study -- pretrained_sources
	@cp -R results/laptop/pretrained/. sources/laptop/

relock: environment  ## compile envs/laptop.in to the locks of all environments
	@python envs/relock.py

environment:
	@$(PYTHON) envs/install.py .venv
