#!/usr/bin/env bash
# Snakemake runs this in the repository's root when it has made the environment.
set -euo pipefail
python -m pip install --quiet --no-deps --no-build-isolation --editable .
