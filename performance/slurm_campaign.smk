# The shape of a campaign of the study, its jobs replaced by sleeps: performance/slurm_campaign.py runs it.

import hashlib
import json
import random
from pathlib import Path

SECONDS = json.loads(Path("seconds.json").read_text())  # rule -> subset or operator -> seconds of its job
TRAINED, SUBSETS = list(SECONDS["train_align"]), list(SECONDS["train_tune"])
FULL = max(TRAINED, key=len)
SEEDS = list(range(config["seeds"]))
SPREAD = 0.2  # of the run times, as a standard deviation of their logarithm
FAILURES = 0.02  # of the attempts, drawn anew for every attempt


def draw(*words):
    """A random stream of a job's own, so that every run of the campaign draws the same."""
    return random.Random(hashlib.sha256(" ".join(map(str, words)).encode()).digest())


def asks(rule):
    """The resources of a rule's jobs, and whether an attempt fails."""
    return {
        "mem_mb": 1000,
        "runtime": 20,
        "fails": lambda wildcards, attempt: int(draw(rule, *wildcards, attempt).random() < FAILURES),
    }


def seconds(rule):
    """How long a rule's jobs sleep: as planned, give or take."""

    def of_job(wildcards):
        return round(SECONDS[rule][wildcards[0]] * draw(rule, *wildcards).lognormvariate(0, SPREAD), 2)

    return of_job


def journal(rule):
    """Where a rule's jobs say what becomes of them: no file of Snakemake's, which would remove it."""
    return lambda wildcards: f"journal/{rule}/{'.'.join(wildcards)}"


def aligned_connector(wildcards):
    """What tune begins with: the blind model has nothing to align."""
    subset, seed = wildcards
    return f"campaign/train_align/{subset}.{seed}" if subset in TRAINED else []


WORK = (
    "mkdir -p $(dirname {params.journal}); echo start ${{SLURM_JOB_ID:-0}} >> {params.journal}; sleep {params.seconds};"
    " if [ {resources.fails} = 1 ]; then echo fail ${{SLURM_JOB_ID:-0}} >> {params.journal}; exit 1; fi;"
    " set -C; echo ${{SLURM_JOB_ID:-0}} > {output}; echo end ${{SLURM_JOB_ID:-0}} >> {params.journal}"
)


rule all:
    input:
        expand("campaign/predict_subset/{subset}.{seed}", subset=SUBSETS, seed=SEEDS),
        expand("campaign/predict_masks/{operator}.{seed}", operator=SECONDS["predict_masks"], seed=SEEDS),
        expand("campaign/measure_ranks/{subset}.{seed}", subset=TRAINED, seed=SEEDS),
        "campaign/measure_pretrained_ranks/all.0",


localrules:
    all,


rule train_align:
    output:
        "campaign/train_align/{subset}.{seed}",
    resources:
        **asks("train_align"),
    params:
        seconds=seconds("train_align"),
        journal=journal("train_align"),
    shell:
        WORK


rule train_tune:
    input:
        aligned_connector,
    output:
        "campaign/train_tune/{subset}.{seed}",
    resources:
        **asks("train_tune"),
    params:
        seconds=seconds("train_tune"),
        journal=journal("train_tune"),
    shell:
        WORK


rule predict_subset:
    input:
        "campaign/train_tune/{subset}.{seed}",
    output:
        "campaign/predict_subset/{subset}.{seed}",
    resources:
        **asks("predict_subset"),
    params:
        seconds=seconds("predict_subset"),
        journal=journal("predict_subset"),
    shell:
        WORK


rule predict_masks:
    input:
        f"campaign/train_tune/{FULL}.{{seed}}",
    output:
        "campaign/predict_masks/{operator}.{seed}",
    resources:
        **asks("predict_masks"),
    params:
        seconds=seconds("predict_masks"),
        journal=journal("predict_masks"),
    shell:
        WORK


rule measure_ranks:
    input:
        "campaign/train_tune/{subset}.{seed}",
    output:
        "campaign/measure_ranks/{subset}.{seed}",
    resources:
        **asks("measure_ranks"),
    params:
        seconds=seconds("measure_ranks"),
        journal=journal("measure_ranks"),
    shell:
        WORK


rule measure_pretrained_ranks:
    output:
        "campaign/measure_pretrained_ranks/{source}.{seed}",
    resources:
        **asks("measure_pretrained_ranks"),
    params:
        seconds=seconds("measure_pretrained_ranks"),
        journal=journal("measure_pretrained_ranks"),
    shell:
        WORK
