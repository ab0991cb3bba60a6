# The settings of each stage, and the pretrained encoders and language model: read from pinned folders, fetched,
# or pretrained here (sources: train).


rule write_settings:
    input:
        "workflow/rules/settings.json.jinja",
    output:
        f"{RESULTS}/settings/{{stage}}.json",
    log:
        f"{RESULTS}/logs/write_settings/{{stage}}.log",
    params:
        settings=lambda wildcards: STAGES[wildcards.stage].model_dump(mode="json"),
    template_engine:
        "jinja2"


rule pretrain_encoder:
    output:
        directory(f"{PRETRAINED}/encoders/{{encoder}}"),
    log:
        f"{RESULTS}/logs/pretrain_encoder/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/timings/pretrain_encoder/{{encoder}}.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        **resources_of("pretrain_encoder"),
    shell:
        "encoder-roles pretrain-encoder --encoder {wildcards.encoder:q} --output {output:q} 2> {log:q}"


rule pretrain_language_model:
    output:
        directory(f"{PRETRAINED}/language_model"),
    log:
        f"{RESULTS}/logs/pretrain_language_model.log",
    benchmark:
        f"{RESULTS}/timings/pretrain_language_model.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        **resources_of("pretrain_language_model"),
    shell:
        "encoder-roles pretrain-language-model --output {output:q} > {log:q} 2>&1"


rule pretrained_sources:
    input:
        expand(f"{PRETRAINED}/{{source}}", source=SOURCES),


rule lock_sources:
    input:
        settings=f"{RESULTS}/settings/lock.json",
    log:
        f"{RESULTS}/logs/lock_sources.log",
    conda:
        "../../envs/evaluation.yaml"
    params:
        lock=LOCK,  # no output, so that only a call writes the lock, never a newer input
    shell:
        "encoder-roles lock-sources --settings {input.settings:q} --output {params.lock:q} 2> {log:q}"


rule fetch_source:
    input:
        settings=f"{RESULTS}/settings/lock.json",
        lock=LOCKED,
    output:
        directory(f"{FETCHED}/{{source}}"),
    log:
        f"{RESULTS}/logs/fetch_source/{{source}}.log",
    benchmark:
        f"{RESULTS}/timings/fetch_source/{{source}}.tsv"
    wildcard_constraints:
        source=one_of(STUDY.hub_sources),
    conda:
        "../../envs/evaluation.yaml"
    resources:
        **resources_of("fetch_source"),
    params:
        lock=LOCK,
    shell:
        "encoder-roles fetch-source --settings {input.settings:q} --lock {params.lock:q} --source {wildcards.source:q}"
        " --output {output:q} 2> {log:q}"


# What the workflow pretrained has gates; a checkpoint from a hub or in a folder of one's own has none
GATED = [
    source
    for source in SOURCES
    if STUDY.sources == "train" or (source not in MADE and Path(source_folder(source), "gates.csv").is_file())
]


rule check_gates:
    input:
        settings=f"{RESULTS}/settings/gates.json",
        sources=[gates_of(source) for source in GATED],
    output:
        f"{RESULTS}/gates.csv",
    log:
        f"{RESULTS}/logs/check_gates.log",
    benchmark:
        f"{RESULTS}/timings/check_gates.tsv"
    priority: 100
    localrule: True
    conda:
        "../../envs/model.yaml"
    resources:
        **resources_of("check_gates"),
    params:
        gates=[f"{source_folder(source)}/gates.csv" for source in GATED],
    shell:
        "encoder-roles check-gates --settings {input.settings:q} --gates {params.gates:q} --output {output:q} 2> {log:q}"


rule stage_encoder:
    input:
        settings=f"{RESULTS}/settings/encoder_{{encoder}}.json",
        files=lambda wildcards: source_files(f"encoders/{wildcards.encoder}"),
    output:
        directory(f"{RESULTS}/encoders/{{encoder}}"),
    log:
        f"{RESULTS}/logs/stage_encoder/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/timings/stage_encoder/{{encoder}}.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        **resources_of("stage_encoder"),
    params:
        source=lambda wildcards: source_folder(f"encoders/{wildcards.encoder}"),
    shell:
        "encoder-roles stage-encoder --settings {input.settings:q} --source {params.source:q} --output {output:q} 2> {log:q}"


rule stage_language_model:
    input:
        settings=f"{RESULTS}/settings/language_model.json",
        files=source_files("language_model"),
    output:
        directory(f"{RESULTS}/language_model"),
    log:
        f"{RESULTS}/logs/stage_language_model.log",
    benchmark:
        f"{RESULTS}/timings/stage_language_model.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        **resources_of("stage_language_model"),
    params:
        source=lambda wildcards: source_folder("language_model"),
    shell:
        "encoder-roles stage-language-model --settings {input.settings:q} --source {params.source:q} --output {output:q} 2> {log:q}"
