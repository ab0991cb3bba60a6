# What made every result, and whether it still holds. Both rules call Snakemake, so they run in its environment.


rule write_manifest:
    input:
        study=f"{RESULTS}/settings/study.json",
        workflow=["Snakefile", *sorted(str(file) for file in Path("workflow/rules").iterdir())],
        paper=f"{RESULTS}/paper",
        figures=expand(f"{RESULTS}/figures/{{figure}}.png", figure=FIGURES),
    output:
        f"{RESULTS}/manifest.json",
    log:
        f"{RESULTS}/logs/write_manifest.log",
    benchmark:
        f"{RESULTS}/timings/write_manifest.tsv"
    handover: True  # it runs a Snakemake that lists the outputs of the DAG
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        folder=subpath(output[0], parent=True),
    shell:
        "encoder-roles write-manifest --results {params.folder:q} --study {input.study:q} --workflow {input.workflow:q}"
        " --output {output:q} 2> {log:q}"


rule verify:
    log:
        f"{RESULTS}/logs/verify.log",
    handover: True
    params:
        configs=lambda wildcards: list(map(str, CONFIGS)),  # a plain `{x}` would be a wildcard
    shell:
        "encoder-roles verify --configs {params.configs:q} 2>&1 | tee {log:q}"
