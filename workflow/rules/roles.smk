# What each encoder contributes: effective ranks before and after joint training, costs, roles, rankings, claims.


rule measure_pretrained_ranks:
    input:
        settings=f"{RESULTS}/settings/rank.json",
        encoders=encoders_of(STUDY.full),
        data=PROBE,
        pictures=f"{RESULTS}/data/probe/pictures",
    output:
        ranks=f"{RESULTS}/pretrained_ranks.csv",
        curve=f"{RESULTS}/rank_curve.csv",
        draws=f"{RESULTS}/pretrained_rank_draws.csv",
    log:
        f"{RESULTS}/logs/measure_pretrained_ranks.log",
    benchmark:
        f"{RESULTS}/timings/measure_pretrained_ranks.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        **asks("measure_pretrained_ranks"),
    shell:
        "encoder-roles measure-pretrained-ranks --settings {input.settings} --encoders {input.encoders}"
        " --data {input.data} --output {output.ranks} --curve {output.curve} --draws {output.draws} 2> {log}"


rule measure_ranks:
    input:
        settings=f"{RESULTS}/settings/rank.json",
        model=f"{MODEL}/tune",
        data=PROBE,
        pictures=f"{RESULTS}/data/probe/pictures",
        # ancient: the rows it reads are those of its own encoders, and when one of them changes, so does the model
        pretrained=ancient(rules.measure_pretrained_ranks.output.ranks),
        draws=ancient(rules.measure_pretrained_ranks.output.draws),
    output:
        f"{MODEL}/ranks.csv",
    log:
        f"{RESULTS}/logs/measure_ranks/{{subset}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/measure_ranks/{{subset}}.seed{{seed}}.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        **asks("measure_ranks"),
    shell:
        "encoder-roles measure-ranks --settings {input.settings} --subset {wildcards.subset} --seed {wildcards.seed}"
        " --model {input.model} --data {input.data} --pretrained {input.pretrained} --draws {input.draws}"
        " --output {output} 2> {log}"


rule collect_ranks:
    input:
        pretrained=f"{RESULTS}/pretrained_ranks.csv",
        trained=expand(f"{MODEL}/ranks.csv", subset=STUDY.trained_subsets, seed=STUDY.seeds),
    output:
        f"{RESULTS}/ranks.csv",
    log:
        f"{RESULTS}/logs/collect_ranks.log",
    benchmark:
        f"{RESULTS}/timings/collect_ranks.tsv"
    localrule: True
    conda:
        "../../envs/model.yaml"
    resources:
        **asks("collect_ranks"),
    shell:
        "encoder-roles collect-ranks --pretrained {input.pretrained} --trained {input.trained} --output {output} 2> {log}"


rule collect_costs:
    input:
        align=expand(f"{MODEL}/align", subset=STUDY.trained_subsets, seed=STUDY.seeds),
        tune=expand(f"{MODEL}/tune", subset=SUBSETS, seed=STUDY.seeds),
        answers=[unmasked_answers(subset, seed) for subset in SUBSETS for seed in STUDY.seeds],
        settings=f"{RESULTS}/settings/score.json",
    output:
        f"{RESULTS}/costs.csv",
    log:
        f"{RESULTS}/logs/collect_costs.log",
    benchmark:
        f"{RESULTS}/timings/collect_costs.tsv"
    localrule: True
    conda:
        "../../envs/model.yaml"
    resources:
        **asks("collect_costs"),
    params:
        training=lambda wildcards, input: [
            f"{folder}/training.json" for folder in [*input.align, *input.tune]
        ],
        predictions=lambda wildcards, input: [f"{folder}/prediction.json" for folder in input.answers],
    shell:
        "encoder-roles collect-costs --settings {input.settings} --training {params.training}"
        " --predictions {params.predictions} --output {output} 2> {log}"


rule assign_roles:
    input:
        settings=f"{RESULTS}/settings/roles.json",
        scores=f"{RESULTS}/scores.parquet",
        ranks=f"{RESULTS}/ranks.csv",
        costs=f"{RESULTS}/costs.csv",
    output:
        roles=f"{RESULTS}/roles.csv",
        pairs=f"{RESULTS}/pairs.csv",
        rankings=f"{RESULTS}/rankings.csv",
        games=f"{RESULTS}/games.csv",
        chains=f"{RESULTS}/chains.csv",
        regression=f"{RESULTS}/rank_regression.csv",
        pareto=f"{RESULTS}/pareto.csv",
        differences=f"{RESULTS}/differences.csv",
        claims=f"{RESULTS}/claims.json",
        notes=f"{RESULTS}/notes.json",
    log:
        f"{RESULTS}/logs/assign_roles.log",
    benchmark:
        f"{RESULTS}/timings/assign_roles.tsv"
    conda:
        "../../envs/paper.yaml"
    resources:
        **asks("assign_roles"),
    params:
        folder=subpath(output.roles, parent=True),
    shell:
        "encoder-roles assign-roles --settings {input.settings} --scores {input.scores} --ranks {input.ranks}"
        " --costs {input.costs} --output {params.folder} 2> {log}"
