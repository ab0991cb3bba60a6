#!/usr/bin/env bash
# Written by `make relock`. Snakemake runs this in the repository's root when it has made the environment, and
# makes the environment anew when this text changes; so it holds the SHA-256 of its locks:
# 67ccb13f6036d881db88c7b52183e32e77f58d8b796ac617a5e4908d207482af  evaluation.cpu.lock
# 1acb9ec20c2b4a0e84eb5d1e055ec697d4eb768639c7b231664d4ba68ea1be89  evaluation.cuda.lock
set -euo pipefail
python envs/install.py --into evaluation
