#!/usr/bin/env bash
# Written by `make relock`. Snakemake runs this in the repository's root when it has made the environment, and
# makes the environment anew when this text changes; so it holds the SHA-256 of its locks:
# 86ef0dbadfbb5c40d5a5aefc223260ee38c50a873e85ba9fcb2d4c97e72300bc  evaluation.cpu.lock
# 1acb9ec20c2b4a0e84eb5d1e055ec697d4eb768639c7b231664d4ba68ea1be89  evaluation.cuda.lock
set -euo pipefail
python envs/install.py --into evaluation
