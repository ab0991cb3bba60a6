# What a study will cost, before anything is spent: `snakemake plan`. Nothing is fetched, no weight is read.


rule plan:
    input:
        settings=f"{RESULTS}/settings/study.json",
    log:
        f"{RESULTS}/logs/plan.log",
    conda:
        "../../envs/model.yaml"
    params:
        # no output: the plan is printed whenever it is asked for
        folder=lambda wildcards, input: Path(input.settings).parents[1],
    shell:
        "encoder-roles plan-study --settings {input.settings:q} --output {params.folder:q}/plan.csv"
        " --models {params.folder:q}/plan_models.csv 2> {log:q}"
