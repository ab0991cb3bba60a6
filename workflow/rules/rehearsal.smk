# A few steps of the study's largest jobs, in one allocation, before the campaign: `snakemake -- rehearse`.

# Without a lock nothing is fetched: weights are then random ones of the real sizes
STAGED = bool(LOCKED) or not (STUDY.hub_sources or STUDY.user_records or STUDY.evaluation.data == "hub")
REHEARSED = [f"{RESULTS}/encoders/{encoder}" for encoder in STUDY.pool] + [f"{RESULTS}/language_model"]
REHEARSED += [records_of(name) for name in ("align", "tune", "probe")]
REHEARSED += [folder for name in ("align", "tune", "probe") for folder in [pictures_of(name)] if folder]


rule rehearse:
    input:
        settings=f"{RESULTS}/settings/study.json",
        staged=REHEARSED if STAGED else [],
    log:
        f"{RESULTS}/logs/rehearse.log",
    retries: 0  # it would find the same again
    conda:
        "../../envs/model.yaml"
    threads: PROCESSES
    resources:
        **resources_of("train_tune"),
    params:
        # no output, so that every call rehearses
        launcher=option("--launcher", " ".join(launcher(STUDY.jobs["train_tune"], PROCESSES, SITE)) or []),
    shell:
        "encoder-roles rehearse --configs {input.settings:q} {params.launcher:q} 2>&1 | tee {log:q}"
