# Figures, tables, the numbers of the text and the PDF. Each takes seconds, so on a cluster they run where
# Snakemake runs. src/encoder_roles/paper/catalogue.py lists them.


for figure in DRAWN:

    rule:
        name:
            f"draw_{figure}"
        input:
            **named(DRAWN[figure]),
        output:
            pdf=f"{RESULTS}/figures/{figure}.pdf",
            svg=f"{RESULTS}/figures/{figure}.svg",
            png=report(
                f"{RESULTS}/figures/{figure}.png",
                category="Figures",
                caption=f"../report/figures/{figure}.rst",
            ),
        log:
            f"{RESULTS}/logs/draw/{figure}.log",
        benchmark:
            f"{RESULTS}/timings/draw/{figure}.tsv"
        localrule: True
        conda:
            "../../envs/paper.yaml"
        resources:
            **resources_of("paper"),
        params:
            figure=figure,
        script:
            "../scripts/draw_{params.figure}.py"


for table in TABULATED:

    rule:
        name:
            f"table_{table}"
        input:
            **named(TABULATED[table]),
        output:
            tex=report(
                f"{RESULTS}/tables/{table}.tex", category="Tables", caption=f"../report/tables/{table}.rst"
            ),
        log:
            f"{RESULTS}/logs/table/{table}.log",
        benchmark:
            f"{RESULTS}/timings/table/{table}.tsv"
        localrule: True
        conda:
            "../../envs/paper.yaml"
        resources:
            **resources_of("paper"),
        params:
            table=table,
        script:
            "../scripts/table_{params.table}.py"


rule collect_values:
    input:
        **named(VALUES),
        records=RECORD_COUNTS,
    output:
        json=f"{RESULTS}/values.json",
    log:
        f"{RESULTS}/logs/collect_values.log",
    benchmark:
        f"{RESULTS}/timings/collect_values.tsv"
    localrule: True
    conda:
        "../../envs/paper.yaml"
    resources:
        **resources_of("paper"),
    script:
        "../scripts/collect_values.py"


rule build_paper:
    input:
        source=sorted(str(file) for file in Path("paper").iterdir()),
        figures=expand(
            f"{RESULTS}/figures/{{figure}}.{{kind}}",
            figure=[figure for figure in FIGURES if figure not in MEASURED_FIGURES],
            kind=["pdf", "svg"],
        ),
        tables=expand(f"{RESULTS}/tables/{{table}}.tex", table=TABLES),
        values=f"{RESULTS}/values.json",
    output:
        directory(f"{RESULTS}/paper"),
    log:
        f"{RESULTS}/logs/build_paper.log",
    benchmark:
        f"{RESULTS}/timings/build_paper.tsv"
    localrule: True
    conda:
        "../../envs/paper.yaml"
    resources:
        **resources_of("paper"),
    params:
        source=lambda wildcards, input: Path(input.source[0]).parent,
        figures=lambda wildcards, input: Path(input.figures[0]).parent,
        tables=lambda wildcards, input: Path(input.tables[0]).parent,
    shell:
        "encoder-roles build-paper --source {params.source:q} --tables {params.tables:q} --figures {params.figures:q}"
        " --values {input.values:q} --output {output:q} 2> {log:q}"
