# Where the inputs of a variant are: under the study's folder, or under the folder of the variant that makes them.

VARIANT = f"{RESULTS}/variants/{{variant}}"
VARIED_STAGES = {name: stage_table(variant) for name, variant in STUDY.variants.items()}


def home(variant, made, of):
    """The folder that holds an input of a variant: the study's folder, or that of the variant that makes it."""
    first = owner(STUDY, variant, made, of)
    return RESULTS if first == STUDY.baseline else VARIANT.format(variant=first)


def variant_encoders(wildcards):
    """As `encoders_of`, for a subset of a variant."""
    names = parse_subset(wildcards.subset, STUDY.pool)
    return [f"{home(wildcards.variant, 'encoder', name)}/encoders/{name}" for name in names]


def variant_features(wildcards):
    """As `features_of`, for a subset of a variant."""
    stored = STUDY.variants[wildcards.variant].training.align.features == "stored"
    names = parse_subset(wildcards.subset, STUDY.pool) if stored else []
    return [
        f"{home(wildcards.variant, 'features', name)}/features/{name}/train.safetensors" for name in names
    ]


def variant_align(wildcards):
    """The aligned connector from which tune starts; empty for the blind model."""
    if wildcards.subset == BLIND:
        return []
    folder = home(wildcards.variant, "align", wildcards.subset)
    return f"{folder}/models/{wildcards.subset}/seed{wildcards.seed}/align"


def variant_model(wildcards):
    """The tuned model that answers the benchmarks."""
    folder = home(wildcards.variant, "tune", wildcards.subset)
    return f"{folder}/models/{wildcards.subset}/seed{wildcards.seed}/tune"


def variant_models(stage):
    """The folders that a stage of training writes, for every model of a variant."""

    def folders(wildcards):
        subsets = SUBSETS if stage == "tune" else STUDY.trained_subsets
        return [
            f"{home(wildcards.variant, stage, subset)}/models/{subset}/seed{seed}/{stage}"
            for subset in subsets
            for seed in STUDY.seeds
        ]

    return folders


def variant_answers(wildcards):
    """The answers of every model of a variant, without masks."""
    return [
        unmasked_answers(subset, seed).replace(RESULTS, home(wildcards.variant, "answers", subset), 1)
        for subset in SUBSETS
        for seed in STUDY.seeds
    ]
