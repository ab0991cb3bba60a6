#!/usr/bin/env bash
# Written by `make relock`. Snakemake runs this in the repository's root when it has made the environment, and
# makes the environment anew when this text changes; so it holds the SHA-256 of its locks:
# c11ea7dd198852229f0fc9a7592b53fdffd06d1e4a2506fa739e583ab6919a36  model.cpu.lock
# a47cb0e6821585d35d9810b60a1ae628b58b550d31fe13099970ff3d6f0d2267  model.cuda.lock
set -euo pipefail
python envs/install.py --into model
