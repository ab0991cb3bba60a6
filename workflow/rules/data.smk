# Pictures, training data and benchmarks of the procedural world; requests; features of frozen encoders.

ROWS = FETCHED if STUDY.evaluation.data == "hub" else f"{RESULTS}/data"  # the questions of the benchmarks
REQUESTS = f"{RESULTS}/requests/manifest.json"


rule make_world:
    input:
        settings=f"{RESULTS}/settings/world.json",
    output:
        train=TRAIN,
        probe=PROBE,
        scenes=expand(f"{RESULTS}/data/{{split}}/scenes.jsonl", split=SPLITS),
        pictures=directory(expand(f"{RESULTS}/data/{{split}}/pictures", split=SPLITS)),
        benchmarks=expand(
            f"{RESULTS}/data/benchmarks/{{benchmark}}/{{split}}.parquet",
            benchmark=BENCHMARKS,
            split=["development", "test"],
        ),
    log:
        f"{RESULTS}/logs/make_world.log",
    benchmark:
        f"{RESULTS}/timings/make_world.tsv"
    conda:
        "../../envs/evaluation.yaml"
    resources:
        **resources_of("make_world"),
    params:
        folder=subpath(output.train, ancestor=2),
    shell:
        "encoder-roles make-world --settings {input.settings:q} --output {params.folder:q} 2> {log:q}"


rule stage_records:
    input:
        settings=f"{RESULTS}/settings/records.json",
        lock=LOCKED,
        # align and tune render their conversations with its tokenizer
        language_model=branch(
            lambda wildcards: wildcards.name != "probe", then=f"{RESULTS}/language_model", otherwise=[]
        ),
        # a dry run needs no records; staging without them is an error
        records=lambda wildcards: [
            file for file in [STUDY.user_records[wildcards.name].records] if Path(file).is_file()
        ],
    output:
        f"{RESULTS}/records/{{name}}/{{name}}.jsonl",
        f"{RESULTS}/records/{{name}}/{{name}}.faults.csv",
        report(
            f"{RESULTS}/records/{{name}}/{{name}}.counts.csv",
            category="Data",
            caption="../report/records.rst",
        ),
    log:
        f"{RESULTS}/logs/stage_records/{{name}}.log",
    benchmark:
        f"{RESULTS}/timings/stage_records/{{name}}.tsv"
    wildcard_constraints:
        name=one_of(STUDY.user_records or ["none"]),
    conda:
        "../../envs/evaluation.yaml"
    resources:
        **resources_of("stage_records"),
    params:
        lock=LOCK,
        folder=subpath(output[0], parent=True),
        language_model=lambda wildcards, input: option("--language-model", input.language_model),
    shell:
        "encoder-roles stage-records --settings {input.settings:q} --lock {params.lock:q} --name {wildcards.name:q}"
        " {params.language_model:q} --output {params.folder:q} 2> {log:q}"


rule fetch_benchmark:
    input:
        settings=f"{RESULTS}/settings/lock.json",
        lock=LOCKED,
    output:
        f"{FETCHED}/benchmarks/{{benchmark}}/test.parquet",
    log:
        f"{RESULTS}/logs/fetch_benchmark/{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/timings/fetch_benchmark/{{benchmark}}.tsv"
    conda:
        "../../envs/evaluation.yaml"
    resources:
        **resources_of("fetch_benchmark"),
    params:
        lock=LOCK,
    shell:
        "encoder-roles fetch-benchmark --settings {input.settings:q} --lock {params.lock:q}"
        " --benchmark {wildcards.benchmark:q} --output {output:q} 2> {log:q}"


rule write_requests:
    input:
        settings=f"{RESULTS}/settings/requests.json",
        benchmarks=expand(
            f"{ROWS}/benchmarks/{{benchmark}}/{STUDY.evaluation.split}.parquet", benchmark=STUDY.benchmarks
        ),
    output:
        manifest=REQUESTS,
        requests=expand(f"{RESULTS}/requests/{{benchmark}}.jsonl", benchmark=STUDY.benchmarks),
        images=directory(f"{RESULTS}/requests/images"),
        categories=f"{RESULTS}/requests/categories.csv",
    log:
        f"{RESULTS}/logs/write_requests.log",
    benchmark:
        f"{RESULTS}/timings/write_requests.tsv"
    conda:
        "../../envs/evaluation.yaml"
    resources:
        **resources_of("write_requests"),
    params:
        data=lambda wildcards, input: Path(input.benchmarks[0]).parents[2],
        folder=subpath(output.manifest, parent=True),
    shell:
        "encoder-roles write-requests --settings {input.settings:q} --data {params.data:q} --output {params.folder:q} 2> {log:q}"


rule frame_pictures:
    input:
        encoders=framing_encoders,
        records=lambda wildcards: [] if wildcards.pictures == "requests" else records_of(wildcards.pictures),
        files=lambda wildcards: (
            f"{RESULTS}/requests/images"
            if wildcards.pictures == "requests"
            else pictures_of(wildcards.pictures)
        ),
    output:
        directory(f"{RESULTS}/framed/{{pictures}}/{{framing}}"),
    log:
        f"{RESULTS}/logs/frame_pictures/{{pictures}}.{{framing}}.log",
    benchmark:
        f"{RESULTS}/timings/frame_pictures/{{pictures}}.{{framing}}.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        **resources_of("frame_pictures"),
    params:
        source=lambda wildcards, input: (
            option("--records", input.records) or option("--requests", str(Path(input.files).parent))
        ),
    shell:
        "encoder-roles frame-pictures --encoders {input.encoders:q} {params.source:q} --output {output:q} 2> {log:q}"


rule extract_features:
    input:
        settings=f"{RESULTS}/settings/features.json",
        encoder=f"{RESULTS}/encoders/{{encoder}}",
        data=records_of("align"),
        pictures=pixels_of("align"),
    output:
        f"{RESULTS}/features/{{encoder}}/train.safetensors",
    log:
        f"{RESULTS}/logs/extract_features/{{encoder}}.log",
    benchmark:
        f"{RESULTS}/timings/extract_features/{{encoder}}.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        **resources_of("extract_features"),
    params:
        pictures=framed,
    shell:
        "encoder-roles extract-features --settings {input.settings:q} --encoder {input.encoder:q} --data {input.data:q}"
        " {params.pictures:q} --output {output:q} 2> {log:q}"
