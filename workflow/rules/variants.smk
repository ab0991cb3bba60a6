# The variants of a study: the same models with another connector, other layers or another recipe. The baseline is
# the unchanged study. An output that several variants share is made once.


use rule write_settings as write_variant_settings with:
    output:
        f"{VARIANT}/settings/{{stage}}.json",
    log:
        f"{RESULTS}/logs/write_variant_settings/{{variant}}.{{stage}}.log",
    params:
        settings=lambda wildcards: VARIED_STAGES[wildcards.variant][wildcards.stage].model_dump(mode="json"),


use rule stage_encoder as stage_variant_encoder with:
    input:
        settings=f"{VARIANT}/settings/encoder_{{encoder}}.json",
        files=lambda wildcards: source_files(f"encoders/{wildcards.encoder}"),
    output:
        directory(f"{VARIANT}/encoders/{{encoder}}"),
    log:
        f"{RESULTS}/logs/stage_variant_encoder/{{variant}}.{{encoder}}.log",
    benchmark:
        f"{RESULTS}/timings/stage_variant_encoder/{{variant}}.{{encoder}}.tsv"


use rule extract_features as extract_variant_features with:
    input:
        settings=f"{VARIANT}/settings/features.json",
        encoder=lambda wildcards: f"{home(wildcards.variant, 'encoder', wildcards.encoder)}/encoders/{wildcards.encoder}",
        data=records_of("align"),
        pictures=pixels_of("align"),
    output:
        f"{VARIANT}/features/{{encoder}}/train.safetensors",
    log:
        f"{RESULTS}/logs/extract_variant_features/{{variant}}.{{encoder}}.log",
    benchmark:
        f"{RESULTS}/timings/extract_variant_features/{{variant}}.{{encoder}}.tsv"


use rule train_align as align_variant with:
    input:
        settings=f"{VARIANT}/settings/align.json",
        gates=ancient(f"{RESULTS}/gates.csv"),
        records=CHECKED_RECORDS,
        encoders=variant_encoders,
        language_model=f"{RESULTS}/language_model",
        features=variant_features,
        data=records_of("align"),
        pictures=[] if FEATURES_STORED else pixels_of("align"),
    output:
        directory(f"{VARIANT}/models/{{subset}}/seed{{seed}}/align"),
    log:
        f"{RESULTS}/logs/align_variant/{{variant}}.{{subset}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/align_variant/{{variant}}.{{subset}}.seed{{seed}}.tsv"
    params:
        features=rules.train_align.params.features,
        restart=f"{RESULTS}/.restart/variants/{{variant}}/align/{{subset}}/seed{{seed}}",


use rule train_tune as tune_variant with:
    input:
        settings=f"{VARIANT}/settings/tune.json",
        gates=ancient(f"{RESULTS}/gates.csv"),
        records=CHECKED_RECORDS,
        encoders=variant_encoders,
        language_model=f"{RESULTS}/language_model",
        align=variant_align,
        data=records_of("tune"),
        pictures=pixels_of("tune"),
    output:
        directory(f"{VARIANT}/models/{{subset}}/seed{{seed}}/tune"),
    log:
        f"{RESULTS}/logs/tune_variant/{{variant}}.{{subset}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/tune_variant/{{variant}}.{{subset}}.seed{{seed}}.tsv"
    params:
        restart=f"{RESULTS}/.restart/variants/{{variant}}/tune/{{subset}}/seed{{seed}}",


use rule predict_subset as predict_variant with:
    input:
        settings=f"{VARIANT}/settings/predict.json",
        model=variant_model,
        manifest=REQUESTS,
        pictures=pixels_of("requests"),
    output:
        directory(f"{VARIANT}/predictions/{{subset}}/seed{{seed}}/{{mask}}.{NO_MASK}"),
    log:
        f"{RESULTS}/logs/predict_variant/{{variant}}.{{subset}}.seed{{seed}}.{{mask}}.log",
    benchmark:
        f"{RESULTS}/timings/predict_variant/{{variant}}.{{subset}}.seed{{seed}}.{{mask}}.tsv"


use rule score_predictions as score_variant with:
    input:
        settings=f"{RESULTS}/settings/score.json",
        manifest=REQUESTS,
        benchmarks=rules.write_requests.input.benchmarks,
        unmasked=variant_answers,
        masked=[],
    output:
        scores=f"{VARIANT}/scores.parquet",
        table=f"{VARIANT}/scores.csv",
    log:
        f"{RESULTS}/logs/score_variant/{{variant}}.log",
    benchmark:
        f"{RESULTS}/timings/score_variant/{{variant}}.tsv"


use rule collect_costs as cost_variant with:
    input:
        align=variant_models("align"),
        tune=variant_models("tune"),
        answers=variant_answers,
        settings=f"{RESULTS}/settings/score.json",
    output:
        f"{VARIANT}/costs.csv",
    log:
        f"{RESULTS}/logs/cost_variant/{{variant}}.log",
    benchmark:
        f"{RESULTS}/timings/cost_variant/{{variant}}.tsv"


rule compare_variants:
    input:
        settings=f"{RESULTS}/settings/variants.json",
        scores=expand(f"{VARIANT}/scores.parquet", variant=STUDY.variants),
        costs=expand(f"{VARIANT}/costs.csv", variant=STUDY.variants),
    output:
        table=f"{RESULTS}/variants.csv",
        claims=f"{RESULTS}/variant_claims.json",
    log:
        f"{RESULTS}/logs/compare_variants.log",
    benchmark:
        f"{RESULTS}/timings/compare_variants.tsv"
    conda:
        "../../envs/paper.yaml"
    resources:
        **resources_of("assign_roles"),
    shell:
        "encoder-roles compare-variants --settings {input.settings:q} --scores {input.scores:q} --costs {input.costs:q}"
        " --output {output.table:q} --claims {output.claims:q} 2> {log:q}"
