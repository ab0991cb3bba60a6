# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Gates of the pretrained encoders
# What a frozen encoder's features show, per skill: one column per encoder. Bold: a gate, and passed; a star:
# a gate that was missed; plain: measured beside the gates.

# %%
from encoder_roles.paper.job import open_table
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.tables import bold, write_table
from encoder_roles.paper.wording import MISSING, fixed

job = open_table("gates", globals())
gates = job.table("gates")
gates = gates[gates["source"] != "language_model"]
sources = [encoder for encoder in job.settings.pool if encoder in set(gates["source"])]
sources += [source for source in gates["source"].unique() if source not in sources]


def cell(gate, source):
    rows = gates[(gates["gate"] == gate) & (gates["source"] == source)]
    if rows.empty:
        return MISSING
    text = fixed(rows["value"].iloc[0])
    passed = str(rows["passed"].iloc[0]).lower()
    return bold(text) if passed == "true" else f"{text}*" if passed == "false" else text


# %%
rows = [
    [gate.replace("_", " "), *(cell(gate, source) for source in sources)] for gate in gates["gate"].unique()
]
head = ["Skill", *map(encoder_name, sources)]
write_table(job.outputs["tex"], "l" + "r" * len(sources), head, rows or [["none", *[MISSING] * len(sources)]])
