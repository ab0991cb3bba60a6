# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # The numbers of the text
# Every number and every chosen sentence of the manuscript, as macros: values.json.

# %%
from encoder_roles.paper.inputs import PaperInputs
from encoder_roles.paper.job import open_values
from encoder_roles.paper.values import collect
from encoder_roles.provenance import write_json
from encoder_roles.study.stages import (
    AlignStage,
    ConvergenceStage,
    EffectiveRankStage,
    MaskStage,
    PaperStage,
    TuneStage,
)

TABLES = (
    *("scores", "lattice", "roles", "pairs", "games", "differences", "chains", "costs", "gates"),
    *("convergence", "loss_edges", "complementarity", "records"),
)
job = open_values(globals())
inputs = PaperInputs(
    **{name: job.table(name) for name in TABLES},
    claims=job.claims("claims"),
    settings=job.settings,
    gate=job.stage("convergence_settings", ConvergenceStage).gate,
    design=job.stage("paper_settings", PaperStage),
    align=job.stage("align_settings", AlignStage),
    tune=job.stage("tune_settings", TuneStage),
    masks=job.stage("mask_settings", MaskStage),
    rank=job.stage("effective_rank_settings", EffectiveRankStage),
)
values = collect(inputs)
write_json(job.outputs["json"], values)
