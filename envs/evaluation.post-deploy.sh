#!/usr/bin/env bash
# Written by `make relock`. Snakemake runs this in the repository's root when it has made the environment, and
# makes the environment anew when this text changes; so it holds the SHA-256 of its locks:
# 16580def42d278253af6b86bd14f2a71ec93072c4c91737e6c2f1fbf486cebc1  evaluation.cpu.lock
# b6a217cc2b735ba9b2ffe91c976605e44bbe127d08a1ee7078a3ee3a02cef877  evaluation.cuda.lock
set -euo pipefail
python envs/install.py --into evaluation
