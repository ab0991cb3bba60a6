# A model per subset: align trains the connector, then tune trains the model.


rule train_align:
    input:
        settings=f"{RESULTS}/settings/align.json",
        gates=ancient(f"{RESULTS}/gates.csv"),  # no training starts from a source that missed a gate
        records=CHECKED_RECORDS,
        encoders=lambda wildcards: encoders_of(wildcards.subset),
        language_model=f"{RESULTS}/language_model",
        features=features_of,
        data=records_of("align"),
        pictures=[] if FEATURES_STORED else pixels_of("align"),
    output:
        directory(f"{MODEL}/align"),
    log:
        f"{RESULTS}/logs/train_align/{{subset}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/train_align/{{subset}}.seed{{seed}}.tsv"
    conda:
        "../../envs/model.yaml"
    threads: PROCESSES
    resources:
        **resources_of("train_align"),
    params:
        launch=launcher(STUDY.jobs["train_align"], PROCESSES, SITE),
        features=lambda wildcards, input: option("--features", input.features),
        pictures=framed,
        restart=f"{RESULTS}/.restart/align/{{subset}}/seed{{seed}}",
    shell:
        "{params.launch:q} encoder-roles train-align --settings {input.settings:q} --subset {wildcards.subset:q} --seed {wildcards.seed:q}"
        " --encoders {input.encoders:q} --language-model {input.language_model:q} {params.features:q}"
        " --data {input.data:q} {params.pictures:q} --restart {params.restart:q} --output {output:q} 2> {log:q}"


rule train_tune:
    input:
        settings=f"{RESULTS}/settings/tune.json",
        gates=ancient(f"{RESULTS}/gates.csv"),
        records=CHECKED_RECORDS,
        encoders=lambda wildcards: encoders_of(wildcards.subset),
        language_model=f"{RESULTS}/language_model",
        align=branch(
            lambda wildcards: wildcards.subset != BLIND,  # the blind model has no connector to align
            then=f"{MODEL}/align",
            otherwise=[],
        ),
        data=records_of("tune"),
        pictures=pixels_of("tune"),
    output:
        directory(f"{MODEL}/tune"),
    log:
        f"{RESULTS}/logs/train_tune/{{subset}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/train_tune/{{subset}}.seed{{seed}}.tsv"
    conda:
        "../../envs/model.yaml"
    threads: PROCESSES
    resources:
        **resources_of("train_tune"),
    params:
        launch=launcher(STUDY.jobs["train_tune"], PROCESSES, SITE),
        align=lambda wildcards, input: option("--align", input.align),
        pictures=framed,
        restart=f"{RESULTS}/.restart/tune/{{subset}}/seed{{seed}}",
    shell:
        "{params.launch:q} encoder-roles train-tune --settings {input.settings:q} --subset {wildcards.subset:q} --seed {wildcards.seed:q}"
        " --encoders {input.encoders:q} --language-model {input.language_model:q} {params.align:q}"
        " --data {input.data:q} {params.pictures:q} --restart {params.restart:q} --output {output:q} 2> {log:q}"
