# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # The numbers of the text
# Every number and every chosen sentence of the manuscript, as macros: values.json.

# %%
from encoder_roles.paper.job import open_values
from encoder_roles.paper.values import Findings, collect
from encoder_roles.provenance import write_json
from encoder_roles.study.sections import WorldSettings
from encoder_roles.study.stages import AlignStage, MaskStage, RankStage, TuneStage

TABLES = ("scores", "roles", "pairs", "games", "differences", "chains", "costs", "gates")
job = open_values(globals())
findings = Findings(
    **{name: job.table(name) for name in TABLES},
    claims=job.json("claims"),
    settings=job.settings,
    world=job.stage("world_settings", WorldSettings),
    align=job.stage("align_settings", AlignStage),
    tune=job.stage("tune_settings", TuneStage),
    masks=job.stage("mask_settings", MaskStage),
    rank=job.stage("rank_settings", RankStage),
)
values = collect(findings)
write_json(job.outputs["json"], values)
