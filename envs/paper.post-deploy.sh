#!/usr/bin/env bash
# Written by `make relock`. Snakemake runs this in the repository's root when it has made the environment, and
# makes the environment anew when this text changes; so it holds the SHA-256 of its locks:
# 30cc0f2bca70dcfe721eae0424341ce558a5232975e4581269dc901ed263a060  paper.cpu.lock
# 30cc0f2bca70dcfe721eae0424341ce558a5232975e4581269dc901ed263a060  paper.cuda.lock
set -euo pipefail
python envs/install.py --into paper
