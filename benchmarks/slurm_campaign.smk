# The shape of a campaign of the study, its jobs replaced by sleeps: benchmarks/slurm_campaign.py runs it.

import hashlib
import itertools
import random

POOL = ["clip", "siglip", "dinov2", "convnext", "sam"]
SUBSETS = ["+".join(c) for k in range(1, 6) for c in itertools.combinations(POOL, k)]
SEEDS = list(range(config["seeds"]))
FULL, OPERATORS = "+".join(POOL), ["zero", "mean", "shuffle", "noise"]
MEDIAN = {"align": 1.0, "tune": 4.0, "predict": 1.5, "rank": 1.0, "masks": 6.0}  # seconds
FAILURES = 0.02  # of the attempts, drawn anew for every attempt


def draw(*words):
    """A random stream of a job's own, so that every run of the campaign draws the same."""
    return random.Random(hashlib.sha256(" ".join(map(str, words)).encode()).digest())


def seconds(stage):
    """Run times as a cluster has them: lognormal around the stage's median, longer with more encoders."""

    def of_job(wildcards):
        size = len(getattr(wildcards, "subset", FULL).split("+"))
        spread = draw(stage, *wildcards).lognormvariate(0, 0.4)
        return round(MEDIAN[stage] * spread * (0.6 + 0.2 * size), 2)

    return of_job


def fails(stage):
    return lambda wildcards, attempt: int(draw(stage, *wildcards, attempt).random() < FAILURES)


# A journal is no file of Snakemake's, which would remove it before the next attempt.
WORK = (
    "mkdir -p $(dirname {params.journal}); echo start ${{SLURM_JOB_ID:-0}} >> {params.journal}; sleep {params.seconds};"
    " if [ {resources.fails} = 1 ]; then echo fail ${{SLURM_JOB_ID:-0}} >> {params.journal}; exit 1; fi;"
    " set -C; echo ${{SLURM_JOB_ID:-0}} > {output}; echo end ${{SLURM_JOB_ID:-0}} >> {params.journal}"
)


rule all:
    input:
        expand("campaign/rank/{subset}.{seed}", subset=SUBSETS, seed=SEEDS),
        expand("campaign/predict/{subset}.{seed}", subset=SUBSETS, seed=SEEDS),
        expand("campaign/masks/{operator}.{seed}", operator=OPERATORS, seed=SEEDS),


localrules:
    all,


rule train_align:
    output:
        "campaign/align/{subset}.{seed}",
    resources:
        mem_mb=1000,
        runtime=20,
        fails=fails("align"),
    params:
        seconds=seconds("align"),
        journal=lambda wildcards: f"journal/align/{'.'.join(wildcards)}",
    shell:
        WORK


rule train_tune:
    input:
        "campaign/align/{subset}.{seed}",
    output:
        "campaign/tune/{subset}.{seed}",
    resources:
        mem_mb=1000,
        runtime=20,
        fails=fails("tune"),
    params:
        seconds=seconds("tune"),
        journal=lambda wildcards: f"journal/tune/{'.'.join(wildcards)}",
    shell:
        WORK


rule predict_subset:
    input:
        "campaign/tune/{subset}.{seed}",
    output:
        "campaign/predict/{subset}.{seed}",
    resources:
        mem_mb=1000,
        runtime=20,
        fails=fails("predict"),
    params:
        seconds=seconds("predict"),
        journal=lambda wildcards: f"journal/predict/{'.'.join(wildcards)}",
    shell:
        WORK


rule measure_ranks:
    input:
        "campaign/tune/{subset}.{seed}",
    output:
        "campaign/rank/{subset}.{seed}",
    resources:
        mem_mb=1000,
        runtime=20,
        fails=fails("rank"),
    params:
        seconds=seconds("rank"),
        journal=lambda wildcards: f"journal/rank/{'.'.join(wildcards)}",
    shell:
        WORK


rule predict_masks:
    input:
        f"campaign/tune/{FULL}.{{seed}}",
    output:
        "campaign/masks/{operator}.{seed}",
    resources:
        mem_mb=1000,
        runtime=20,
        fails=fails("masks"),
    params:
        seconds=seconds("masks"),
        journal=lambda wildcards: f"journal/masks/{'.'.join(wildcards)}",
    shell:
        WORK
