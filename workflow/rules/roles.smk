# What each encoder contributes: effective ranks before and after training, costs, roles, rankings, claims.


rule measure_pretrained_ranks:
    input:
        settings=f"{RESULTS}/settings/effective_rank.json",
        encoders=encoders_of(STUDY.full),
        data=records_of("probe"),
        pictures=pixels_of("probe"),
    output:
        ranks=f"{RESULTS}/pretrained_ranks.csv",
        curve=f"{RESULTS}/rank_curve.csv",
        draws=f"{RESULTS}/pretrained_rank_draws.csv",
        spectra=f"{RESULTS}/pretrained_spectra.csv",
    log:
        f"{RESULTS}/logs/measure_pretrained_ranks.log",
    benchmark:
        f"{RESULTS}/timings/measure_pretrained_ranks.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        **resources_of("measure_pretrained_ranks"),
    params:
        pictures=framed,
    shell:
        "encoder-roles measure-pretrained-ranks --settings {input.settings:q} --encoders {input.encoders:q}"
        " --data {input.data:q} {params.pictures:q} --output {output.ranks:q} --curve {output.curve:q} --draws {output.draws:q}"
        " --spectra {output.spectra:q} 2> {log:q}"


rule measure_ranks:
    input:
        settings=f"{RESULTS}/settings/effective_rank.json",
        model=f"{MODEL}/tune",
        data=records_of("probe"),
        pictures=pixels_of("probe"),
        # ancient: a change of the rows that it reads, those of its encoders, also changes the model
        pretrained=ancient(rules.measure_pretrained_ranks.output.ranks),
        draws=ancient(rules.measure_pretrained_ranks.output.draws),
    output:
        ranks=f"{MODEL}/ranks.csv",
        spectra=f"{MODEL}/spectra.csv",
    log:
        f"{RESULTS}/logs/measure_ranks/{{subset}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/measure_ranks/{{subset}}.seed{{seed}}.tsv"
    conda:
        "../../envs/model.yaml"
    resources:
        **resources_of("measure_ranks"),
    params:
        pictures=framed,
    shell:
        "encoder-roles measure-ranks --settings {input.settings:q} --subset {wildcards.subset:q} --seed {wildcards.seed:q}"
        " --model {input.model:q} --data {input.data:q} {params.pictures:q} --pretrained {input.pretrained:q} --draws {input.draws:q}"
        " --output {output.ranks:q} --spectra {output.spectra:q} 2> {log:q}"


rule collect_ranks:
    input:
        pretrained=f"{RESULTS}/pretrained_ranks.csv",
        trained=expand(f"{MODEL}/ranks.csv", subset=STUDY.trained_subsets, seed=STUDY.seeds),
        pretrained_spectra=f"{RESULTS}/pretrained_spectra.csv",
        spectra=expand(f"{MODEL}/spectra.csv", subset=STUDY.trained_subsets, seed=STUDY.seeds),
    output:
        ranks=f"{RESULTS}/ranks.csv",
        spectra=f"{RESULTS}/spectra.csv",
    log:
        f"{RESULTS}/logs/collect_ranks.log",
    benchmark:
        f"{RESULTS}/timings/collect_ranks.tsv"
    localrule: True
    conda:
        "../../envs/model.yaml"
    resources:
        **resources_of("collect_ranks"),
    shell:
        "encoder-roles collect-ranks --pretrained {input.pretrained:q} --trained {input.trained:q} --output {output.ranks:q}"
        " --pretrained-spectra {input.pretrained_spectra:q} --trained-spectra {input.spectra:q} --spectra {output.spectra:q}"
        " 2> {log:q}"


rule collect_costs:
    input:
        align=expand(f"{MODEL}/align", subset=STUDY.trained_subsets, seed=STUDY.seeds),
        tune=expand(f"{MODEL}/tune", subset=SUBSETS, seed=STUDY.seeds),
        answers=[unmasked_answers(subset, seed) for subset in SUBSETS for seed in STUDY.seeds],
        settings=f"{RESULTS}/settings/score.json",
    output:
        report(f"{RESULTS}/costs.csv", category="Tables", caption="../report/measured_costs.rst"),
    log:
        f"{RESULTS}/logs/collect_costs.log",
    benchmark:
        f"{RESULTS}/timings/collect_costs.tsv"
    localrule: True
    conda:
        "../../envs/model.yaml"
    resources:
        **resources_of("collect_costs"),
    params:
        training=lambda wildcards, input: [
            f"{folder}/training.json" for folder in [*input.align, *input.tune]
        ],
        predictions=lambda wildcards, input: [f"{folder}/prediction.json" for folder in input.answers],
    shell:
        "encoder-roles collect-costs --settings {input.settings:q} --training {params.training:q}"
        " --predictions {params.predictions:q} --output {output:q} 2> {log:q}"


# The gain per further epoch comes from variants that have been compared; the paper itself trains none.
COMPARED = [table for table in (f"{RESULTS}/variants.csv",) if STUDY.variants and Path(table).is_file()]


rule measure_convergence:
    input:
        settings=f"{RESULTS}/settings/convergence.json",
        align=rules.collect_costs.input.align,
        tune=rules.collect_costs.input.tune,
        variants=COMPARED,
    output:
        table=report(f"{RESULTS}/convergence.csv", category="Tables", caption="../report/convergence.rst"),
        edges=f"{RESULTS}/loss_edges.csv",
    log:
        f"{RESULTS}/logs/measure_convergence.log",
    benchmark:
        f"{RESULTS}/timings/measure_convergence.tsv"
    localrule: True
    conda:
        "../../envs/paper.yaml"
    resources:
        **resources_of("collect_costs"),
    params:
        variants=lambda wildcards, input: option("--variants", input.variants),
    shell:
        "encoder-roles measure-convergence --settings {input.settings:q} --trainings {input.align:q} {input.tune:q}"
        " {params.variants:q} --output {output.table:q} --edges {output.edges:q} 2> {log:q}"


# of a study with several seeds; a study with one seed takes the noise between seeds from it
SEED_COVARIANCE = "studies/seed_covariance.csv"


rule assign_roles:
    input:
        settings=f"{RESULTS}/settings/roles.json",
        scores=f"{RESULTS}/scores.parquet",
        ranks=f"{RESULTS}/ranks.csv",
        costs=f"{RESULTS}/costs.csv",
        seed_covariance=[SEED_COVARIANCE] if len(STUDY.seeds) == 1 and Path(SEED_COVARIANCE).exists() else [],
    output:
        lattice=f"{RESULTS}/lattice.csv",
        roles=f"{RESULTS}/roles.csv",
        pairs=f"{RESULTS}/pairs.csv",
        rankings=f"{RESULTS}/rankings.csv",
        games=f"{RESULTS}/games.csv",
        chains=f"{RESULTS}/chains.csv",
        regression=f"{RESULTS}/rank_regression.csv",
        pareto=f"{RESULTS}/pareto.csv",
        differences=f"{RESULTS}/differences.csv",
        gaps=f"{RESULTS}/mask_gaps.csv",
        measured=f"{RESULTS}/seed_covariance.csv",
        claims=f"{RESULTS}/claims.json",
        notes=f"{RESULTS}/notes.json",
    log:
        f"{RESULTS}/logs/assign_roles.log",
    benchmark:
        f"{RESULTS}/timings/assign_roles.tsv"
    conda:
        "../../envs/paper.yaml"
    resources:
        **resources_of("assign_roles"),
    params:
        folder=subpath(output.roles, parent=True),
        noise=lambda wildcards, input: option("--seed-covariance", input.seed_covariance),
    shell:
        "encoder-roles assign-roles --settings {input.settings:q} --scores {input.scores:q} --ranks {input.ranks:q}"
        " --costs {input.costs:q} {params.noise:q} --output {params.folder:q} 2> {log:q}"


rule measure_skills:
    input:
        settings=f"{RESULTS}/settings/roles.json",
        scores=f"{RESULTS}/scores.parquet",
        categories=f"{RESULTS}/requests/categories.csv",
    output:
        skills=f"{RESULTS}/skills.csv",
        pairs=f"{RESULTS}/complementarity.csv",
    log:
        f"{RESULTS}/logs/measure_skills.log",
    benchmark:
        f"{RESULTS}/timings/measure_skills.tsv"
    conda:
        "../../envs/paper.yaml"
    resources:
        **resources_of("assign_roles"),
    shell:
        "encoder-roles measure-skills --settings {input.settings:q} --scores {input.scores:q}"
        " --categories {input.categories:q} --output {output.skills:q} --pairs {output.pairs:q} 2> {log:q}"


rule replay_advisor:
    input:
        settings=f"{RESULTS}/settings/advisor.json",
        scores=f"{RESULTS}/scores.csv",
    output:
        regret=f"{RESULTS}/advisor.csv",
        coverage=f"{RESULTS}/advisor_coverage.csv",
    log:
        f"{RESULTS}/logs/replay_advisor.log",
    benchmark:
        f"{RESULTS}/timings/replay_advisor.tsv"
    conda:
        "../../envs/paper.yaml"
    resources:
        **resources_of("replay_advisor"),
    shell:
        "encoder-roles replay-advisor --settings {input.settings:q} --scores {input.scores:q} --output {output.regret:q}"
        " --coverage {output.coverage:q} 2> {log:q}"


if STUDY.scores:
    EXTERNAL_RESULTS = f"results/{STUDY.scores.study}"

    localrules:
        write_external_settings,

    use rule write_settings as write_external_settings with:
        output:
            f"{EXTERNAL_RESULTS}/settings/external_scores.json",
        log:
            f"{EXTERNAL_RESULTS}/logs/write_settings.log",
        params:
            settings=STAGES["external_scores"].model_dump(mode="json"),

    rule analyse_scores:
        input:
            settings=rules.write_external_settings.output,
            scores=STUDY.scores.file,
            ranks=STUDY.scores.ranks or [],
            costs=STUDY.scores.costs or [],
        output:
            averages=f"{EXTERNAL_RESULTS}/averages.csv",
            tables=[f"{EXTERNAL_RESULTS}/{Path(table).name}" for table in rules.assign_roles.output],
            report=f"{EXTERNAL_RESULTS}/report.html",
        log:
            f"{EXTERNAL_RESULTS}/logs/analyse_scores.log",
        benchmark:
            f"{EXTERNAL_RESULTS}/timings/analyse_scores.tsv"
        conda:
            "../../envs/paper.yaml"
        resources:
            **resources_of("assign_roles"),
        params:
            folder=subpath(output.averages, parent=True),
            # both as options, where they are given
            joined=lambda wildcards, input: option("--ranks", input.ranks) + option("--costs", input.costs),
        shell:
            "encoder-roles analyse-scores --settings {input.settings:q} --scores {input.scores:q} {params.joined:q}"
            " --output {params.folder:q} 2> {log:q}"


# only the analysis: of this study or, with `--config scores=<file>`, of that table without any training
rule roles:
    input:
        rules.analyse_scores.output if STUDY.scores else rules.assign_roles.output,
