#!/usr/bin/env bash
# Written by `make relock`. Snakemake runs this in the repository's root when it has made the environment, and
# makes the environment anew when this text changes; so it holds the SHA-256 of its locks:
# f1d4c3a3dca3275aa38375cbfca788a0f4397eb6881520f23a9a1faf281d5f09  model.cpu.lock
# a47cb0e6821585d35d9810b60a1ae628b58b550d31fe13099970ff3d6f0d2267  model.cuda.lock
set -euo pipefail
python envs/install.py --into model
