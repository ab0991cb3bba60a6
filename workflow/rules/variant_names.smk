# What the rules of variants share: the names of a variant's files, and whose they are.

VARIANT = f"{RESULTS}/variants/{{variant}}"
VARIED_STAGES = {name: stage_table(variant) for name, variant in STUDY.variants.items()}


def home(variant, made, of):
    """The folder under which the thing that a variant needs is made: the study's, or that of its first owner."""
    first = owner(STUDY, variant, made, of)
    return RESULTS if first == STUDY.baseline else VARIANT.format(variant=first)


def variant_encoders(wildcards):
    """As `encoders_of`, for the subset of a variant."""
    names = parse_subset(wildcards.subset, STUDY.pool)
    return [f"{home(wildcards.variant, 'encoder', name)}/encoders/{name}" for name in names]


def variant_features(wildcards):
    """The features of a subset's encoders, in pool order."""
    names = parse_subset(wildcards.subset, STUDY.pool)
    return [
        f"{home(wildcards.variant, 'features', name)}/features/{name}/train.safetensors" for name in names
    ]


def variant_align(wildcards):
    """The aligned connector that tune starts from; the blind model has none."""
    if wildcards.subset == BLIND:
        return []
    folder = home(wildcards.variant, "align", wildcards.subset)
    return f"{folder}/models/{wildcards.subset}/seed{wildcards.seed}/align"


def variant_model(wildcards):
    """The trained model of a subset of a variant."""
    folder = home(wildcards.variant, "tune", wildcards.subset)
    return f"{folder}/models/{wildcards.subset}/seed{wildcards.seed}/tune"


def variant_models(stage):
    """The trained folders of every model of a variant."""

    def folders(wildcards):
        subsets = SUBSETS if stage == "tune" else STUDY.trained_subsets
        return [
            f"{home(wildcards.variant, stage, subset)}/models/{subset}/seed{seed}/{stage}"
            for subset in subsets
            for seed in STUDY.seeds
        ]

    return folders


def variant_answers(wildcards):
    """The answers of every model of a variant as trained."""
    return [
        unmasked_answers(subset, seed).replace(RESULTS, home(wildcards.variant, "answers", subset), 1)
        for subset in SUBSETS
        for seed in STUDY.seeds
    ]
