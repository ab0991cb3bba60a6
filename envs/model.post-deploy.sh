#!/usr/bin/env bash
# Written by `make relock`. Snakemake runs this in the repository's root when it has made the environment, and
# makes the environment anew when this text changes; so it holds the SHA-256 of its locks:
# 61b6b0af28875deef7294062ad1ae37c25f46a3e5427f804baff7751097de38a  model.cpu.lock
# 96056dc20de268e2ffe537b8b3699afafe6df60c3fd3bfb92042ffe9506676e9  model.cuda.lock
set -euo pipefail
python envs/install.py --into model
