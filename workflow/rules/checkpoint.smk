# A trained model from elsewhere: its answers under every mask, a job each; scores; masked roles and a report.

CHECKPOINT = f"{RESULTS}/checkpoint"
CHECKPOINT_ANSWERS = f"{CHECKPOINT}/predictions/{STUDY.checkpoint.full}/seed0/{{kept}}.{{replacement}}"
CALIBRATED_ON = STUDY.checkpoint.calibration or records_of("tune")

check_braces("checkpoint.calibration", CALIBRATED_ON)


rule predict_checkpoint:
    input:
        settings=f"{RESULTS}/settings/checkpoint.json",
        manifest=REQUESTS,
        pictures=f"{RESULTS}/requests/images",
        # zero reads no pictures
        calibration=lambda wildcards: ([] if wildcards.replacement in ("zero", NO_MASK) else [CALIBRATED_ON]),
    output:
        directory(CHECKPOINT_ANSWERS),
    log:
        f"{RESULTS}/logs/predict_checkpoint/{{kept}}.{{replacement}}.log",
    benchmark:
        f"{RESULTS}/timings/predict_checkpoint/{{kept}}.{{replacement}}.tsv"
    wildcard_constraints:
        kept=one_of((STUDY.checkpoint.full, *STUDY.checkpoint.masks)),
        replacement=one_of((NO_MASK, *STUDY.checkpoint.operators)),
    conda:
        "../../envs/evaluation.yaml"
    resources:
        **resources_of("predict_masks"),
    params:
        requests=subpath(input.manifest, parent=True),
        calibration=lambda wildcards, input: option("--calibration", input.calibration),
    shell:
        "encoder-roles predict-checkpoint --settings {input.settings:q} --requests {params.requests:q}"
        " --mask {wildcards.kept:q} --operator {wildcards.replacement:q} {params.calibration:q}"
        " --output {output:q} > {log:q} 2>&1"


use rule score_predictions as score_checkpoint with:
    input:
        settings=f"{RESULTS}/settings/score.json",
        manifest=REQUESTS,
        benchmarks=rules.write_requests.input.benchmarks,
        unmasked=CHECKPOINT_ANSWERS.format(kept=STUDY.checkpoint.full, replacement=NO_MASK),
        masked=[
            CHECKPOINT_ANSWERS.format(kept=mask, replacement=operator)
            for mask, operator in STUDY.checkpoint.runs[1:]
        ],
    output:
        scores=f"{CHECKPOINT}/scores.parquet",
        table=f"{CHECKPOINT}/scores.csv",
    log:
        f"{RESULTS}/logs/score_checkpoint.log",
    benchmark:
        f"{RESULTS}/timings/score_checkpoint.tsv"


rule analyse_checkpoint:
    input:
        settings=f"{RESULTS}/settings/checkpoint_scores.json",
        scores=rules.score_checkpoint.output.scores,
    output:
        directory(f"{CHECKPOINT}/roles"),
    log:
        f"{RESULTS}/logs/analyse_checkpoint.log",
    benchmark:
        f"{RESULTS}/timings/analyse_checkpoint.tsv"
    conda:
        "../../envs/paper.yaml"
    resources:
        **resources_of("assign_roles"),
    shell:
        "encoder-roles analyse-scores --settings {input.settings:q} --scores {input.scores:q} --output {output:q}"
        " 2> {log:q}"


rule mask_checkpoint:
    input:
        rules.analyse_checkpoint.output,
