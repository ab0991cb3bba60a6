# The cost of a study before it runs: `snakemake plan`. It fetches nothing and reads no weights.


rule plan:
    input:
        settings=f"{RESULTS}/settings/study.json",
    log:
        f"{RESULTS}/logs/plan.log",
    conda:
        "../../envs/model.yaml"
    params:
        # no output, so that every call prints the plan
        folder=lambda wildcards, input: Path(input.settings).parents[1],
    shell:
        "encoder-roles plan-study --settings {input.settings:q} --output {params.folder:q}/plan.csv"
        " --models {params.folder:q}/plan_models.csv 2> >(tee {log:q} >&2)"
