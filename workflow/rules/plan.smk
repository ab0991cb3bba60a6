# What a study will cost, before anything is spent: `snakemake plan`. Nothing is fetched, no weight is read.


rule plan:
    input:
        settings=f"{RESULTS}/settings/study.json",
    output:
        rules=f"{RESULTS}/plan.csv",
        models=f"{RESULTS}/plan_models.csv",
    log:
        f"{RESULTS}/logs/plan.log",
    benchmark:
        f"{RESULTS}/timings/plan.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        mem_mb=4000,
        runtime=30,
    shell:
        "encoder-roles plan-study --settings {input.settings} --output {output.rules} --models {output.models} 2> {log}"
