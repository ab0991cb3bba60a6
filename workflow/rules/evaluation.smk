# Answers of every model, and of the full pool's model under every mask; scores from lmms-eval's task code.

MASKED = [
    f"{RESULTS}/predictions/{STUDY.full}/seed{{seed}}/{mask}.{{operator}}" for mask in STUDY.masks_of_full
]


rule predict_subset:
    input:
        settings=f"{RESULTS}/settings/predict.json",
        model=f"{MODEL}/tune",
        manifest=REQUESTS,
        pictures=pixels_of("requests"),
    output:
        directory(f"{RESULTS}/predictions/{{subset}}/seed{{seed}}/{{mask}}.{NO_MASK}"),
    log:
        f"{RESULTS}/logs/predict_subset/{{subset}}.seed{{seed}}.{{mask}}.log",
    benchmark:
        f"{RESULTS}/timings/predict_subset/{{subset}}.seed{{seed}}.{{mask}}.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        **resources_of("predict_subset"),
    params:
        requests=subpath(input.manifest, parent=True),
        pictures=framed,
    shell:
        "encoder-roles predict-subset --settings {input.settings:q} --requests {params.requests:q} {params.pictures:q}"
        " --model {input.model:q} --subset {wildcards.subset:q} --output {output:q} 2> {log:q}"


rule predict_masks:
    input:
        settings=f"{RESULTS}/settings/masks.json",
        model=f"{RESULTS}/models/{STUDY.full}/seed{{seed}}/tune",
        data=records_of("tune"),  # mask operators are calibrated on training pictures
        calibration=pixels_of("tune"),
        manifest=REQUESTS,
        pictures=pixels_of("requests"),
    output:
        directory(MASKED),
    log:
        f"{RESULTS}/logs/predict_masks/{{operator}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/predict_masks/{{operator}}.seed{{seed}}.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        **resources_of("predict_masks"),
    params:
        masks=STUDY.masks_of_full,
        requests=subpath(input.manifest, parent=True),
        folder=subpath(output[0], parent=True),
        pictures=framed,
        calibration=lambda wildcards, input: option(
            "--calibration-pictures", input.calibration if PICTURES_STORED else []
        ),
    shell:
        "encoder-roles predict-masks --settings {input.settings:q} --operator {wildcards.operator:q}"
        " --requests {params.requests:q} --model {input.model:q} --masks {params.masks:q} --data {input.data:q}"
        " {params.pictures:q} {params.calibration:q} --output-root {params.folder:q} 2> {log:q}"


rule score_predictions:
    input:
        settings=f"{RESULTS}/settings/score.json",
        manifest=REQUESTS,
        benchmarks=rules.write_requests.input.benchmarks,
        unmasked=[unmasked_answers(subset, seed) for subset in SUBSETS for seed in STUDY.seeds],
        masked=expand(MASKED, operator=STUDY.masks.operators, seed=STUDY.seeds),
    output:
        scores=f"{RESULTS}/scores.parquet",
        table=f"{RESULTS}/scores.csv",
    log:
        f"{RESULTS}/logs/score_predictions.log",
    benchmark:
        f"{RESULTS}/timings/score_predictions.tsv"
    conda:
        "../../envs/evaluation.yaml"
    resources:
        **resources_of("score_predictions"),
    params:
        requests=subpath(input.manifest, parent=True),
        data=lambda wildcards, input: Path(input.benchmarks[0]).parents[2],
    shell:
        "encoder-roles score-predictions --settings {input.settings:q} --requests {params.requests:q} --data {params.data:q}"
        " --predictions {input.unmasked:q} {input.masked:q}"
        " --output-scores {output.scores:q} --output-table {output.table:q} 2> {log:q}"
