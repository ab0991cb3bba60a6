# The study as a DAG: one config -> a model per subset, answers per mask -> one table of scores -> the paper.
# `make paper` runs it, `snakemake --dry-run` shows it, and docs/contracts.md describes every file.

import sys
from pathlib import Path

# every path of a rule or a config is relative to this folder
if not Path(workflow.basedir).samefile(Path.cwd()):
    sys.exit(
        f"error: a study runs in the folder of its Snakefile: add `--directory {Path(workflow.basedir).resolve()}`"
    )


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


# The MALLOC variables: glibc keeps the memory of freed tensors, because returning it costs time in every step.
# ENCODER_ROLES_LOCKS: a job logs its environment, and stops if that environment differs from its lock.
shell.prefix(
    "set -euo pipefail; "  # Snakemake's own prefix, which this one replaces
    "export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=4294967296 ENCODER_ROLES_LOCKS=envs; "
)


include: "workflow/rules/common.smk"  # config -> STUDY, the validated study; file names


wildcard_constraints:
    encoder=one_of(STUDY.pool),
    subset=one_of(SUBSETS),
    seed=one_of(STUDY.seeds),
    mask=one_of((*SUBSETS, NONE_KEPT)),
    operator=one_of(STUDY.masks.operators),
    stage=one_of(STAGES),
    variant=one_of(STUDY.variants),
    benchmark=one_of(STUDY.benchmarks),
    pictures=one_of(("train", "align", "tune", "probe", "requests")),
    framing=one_of(FRAMINGS),


include: "workflow/rules/plan.smk"  # what the study costs
include: "workflow/rules/sources.smk"  # pretrained encoders, language model, their gates
include: "workflow/rules/data.smk"  # pictures, training data, benchmarks, requests, features
include: "workflow/rules/training.smk"  # align and tune: a model per subset
include: "workflow/rules/evaluation.smk"  # answers per subset and mask -> scores
include: "workflow/rules/roles.smk"  # effective ranks, costs, Capacity, Necessity, rankings, claims
include: "workflow/rules/paper.smk"  # figures, tables, numbers in the text, the PDF
include: "workflow/rules/rehearsal.smk"  # the study in small, against its plan
include: "workflow/rules/manifest.smk"  # every file with its hash and origin; verify


onstart:
    check_start(workflow)


localrules:
    lock_sources,
    paper,
    plan,
    pretrained_sources,
    roles,
    verify,
    write_manifest,
    write_settings,


rule paper:
    default_target: True
    input:
        f"{RESULTS}/paper",
        expand(f"{RESULTS}/figures/{{figure}}.png", figure=FIGURES),
        f"{RESULTS}/manifest.json",


if STUDY.checkpoint:  # a trained model from elsewhere, masked

    include: "workflow/rules/checkpoint.smk"

    localrules:
        mask_checkpoint,


if STUDY.variants:  # the same models with other connectors, layers or recipes

    include: "workflow/rules/variant_files.smk"
    include: "workflow/rules/variants.smk"

    localrules:
        variants,
        write_variant_settings,

    rule variants:
        default_target: True
        input:
            f"{RESULTS}/variant_claims.json",
            expand(f"{RESULTS}/figures/{{figure}}.png", figure=VARIANT_FIGURES),
            expand(f"{RESULTS}/tables/{{table}}.tex", table=VARIANT_TABLES),
