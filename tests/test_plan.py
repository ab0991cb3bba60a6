"""What a study is planned to cost is what the architectures, the DAG and the training loop say."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from snakemake_call import snakemake
from torch.nn.functional import scaled_dot_product_attention

from encoder_roles.planning import costs, progress
from encoder_roles.planning.costs import MASTER, Planner, count_training_samples
from encoder_roles.planning.plan import describe_plan, plan_rows, plan_study
from encoder_roles.planning.sizes import (
    KnownSizes,
    LanguageModelSizes,
    measure,
    meta_encoder,
    size_connector,
    size_encoder,
)
from encoder_roles.study.config import Study, load_study
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import ConnectorSettings, LanguageModelSpec

ROOT = Path(__file__).parents[1]
KNOWN: KnownSizes = {}  # of the laptop's encoders, counted by the first test that needs them


def laptop(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Study:
    """The laptop study with two encoders, some keys replaced."""
    monkeypatch.chdir(ROOT)
    study = load_study(Path("config.yaml"))
    return Study.model_validate(study.model_dump(mode="json") | {"pool": ["clip", "sam"]} | changes)


def test_a_linear_layer_costs_what_is_written_in_every_textbook() -> None:
    layer = torch.nn.Linear(30, 50, device="meta")
    batch = torch.zeros(7, 30, device="meta")
    size = measure(layer, lambda: layer(batch).relu())
    assert size.parameters == 30 * 50 + 50
    assert size.flops == 2 * 7 * 30 * 50
    assert size.saved == 4 * 7 * (30 + 50)  # the input for the weight's gradient, the output for relu's


def test_attention_is_counted_though_its_kernel_is_fused() -> None:
    module, states = torch.nn.Identity(), torch.zeros(1, 2, 11, 16, device="meta")
    size = measure(module, lambda: scaled_dot_product_attention(states, states, states))
    assert size.flops == 2 * (2 * 2 * 11 * 11 * 16)  # scores and weighted values, two heads


def test_the_language_model_has_its_published_parameters_and_two_flops_for_each_a_token() -> None:
    row = {"source": "Qwen/Qwen2.5-0.5B-Instruct", "revision": "main", "library_config": QWEN_HALF}
    sizes = LanguageModelSizes(LanguageModelSpec.model_validate(row), torch.bfloat16)
    assert sizes.size(1).parameters == 494_032_768  # as the model's publication counts them
    tied = 896 * 151_936
    assert sizes.size(1).flops == pytest.approx(2 * (494_032_768 - tied), rel=0.001)
    assert sizes.head_flops(3) == 2 * 3 * tied


QWEN_HALF = {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
QWEN_HALF |= {"num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151_936}
QWEN_HALF |= {"tie_word_embeddings": True}


VARIED = [f"studies/laptop_{name}.yaml" for name in ("connectors", "levels", "frozen")]


@pytest.mark.parametrize(("overlay", "target"), [(None, "paper"), *((path, "variants") for path in VARIED)])
def test_the_planned_jobs_are_the_jobs_of_the_dag(
    monkeypatch: pytest.MonkeyPatch, overlay: str | None, target: str
) -> None:
    monkeypatch.chdir(ROOT)
    overlays = [Path(overlay)] if overlay else []
    rows = pd.DataFrame(plan_rows(load_study(Path("config.yaml"), *overlays))[0])
    planned = rows.groupby("rule")["jobs"].sum().to_dict()
    configs = ["--configfile", overlay] if overlay else []
    done = snakemake(ROOT, "--dry-run", "--forceall", *configs, "--", target)
    jobs = Counter(re.findall(r"^(?:local)?rule (\w+):", done.stdout, re.MULTILINE))
    assert planned == {rule: jobs[rule] for rule in planned} and len(planned) >= 6
    computing = r"^(frame|extract|train|predict)_|^measure_(pretrained_)?ranks$|^(align|tune|predict)_variant"
    computing += "|_variant_features"
    assert set(planned) == {rule for rule in jobs if re.search(computing, rule)}


def test_an_encoder_on_the_meta_device_is_as_large_as_the_one_that_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from encoder_roles.encoders.loading import load_source

    study = laptop(monkeypatch)
    spec = study.encoders["clip"]
    loaded = load_source("clip", spec, Path(spec.source))
    size = size_encoder(meta_encoder("clip", spec), 4, torch.float32)
    assert size.parameters == sum(parameter.numel() for parameter in loaded.parameters())


def test_a_connector_larger_than_any_memory_is_sized() -> None:
    settings = ConnectorSettings(kind="mlp", layers=2)
    size, tokens = size_connector({"clip": [30_000]}, settings, 1_000_000, torch.float32)
    assert size.parameters == 1_000_000 * (30_000 + 1 + 1_000_000 + 1) and tokens == settings.grid**2


def test_zero_shares_out_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory(**engine: Any) -> int:
        study = laptop(monkeypatch)
        training = study.training.model_dump(mode="json")
        training["engine"] |= {"kind": "deepspeed", "precision": "bf16", "processes": 8, **engine}
        training["align"]["batch_pictures"] = 16
        return Planner(laptop(monkeypatch, training=training), KNOWN)._memory(1000, 800, 0, 1)

    assert memory(zero_stage=2) == 2 * 1000 + (2 * 800 + MASTER * 800) // 8
    assert memory(zero_stage=3) == 2 * 1000 // 8 + (2 * 800 + MASTER * 800) // 8
    assert memory(zero_stage=2, offload=True) == 2 * 1000 + 2 * 800 // 8


def test_a_node_holds_six_bytes_of_a_parameter_for_each_process_or_the_copies_of_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def host(nodes: int = 1, **engine: Any) -> float:
        study = laptop(monkeypatch)
        training, jobs = (getattr(study, key) for key in ("training", "jobs"))
        training = training.model_dump(mode="json")
        training["engine"] |= {"kind": "deepspeed", "processes": 8, **engine}
        training["align"]["batch_pictures"] = 16
        jobs = {name: job.model_dump() for name, job in jobs.items()}
        jobs["train_tune"] |= {"nodes": nodes}
        planner = Planner(laptop(monkeypatch, training=training, jobs=jobs), KNOWN)
        return planner._host("train_tune", 1000, 800)

    assert host(precision="bf16") == 8 * 6 * 1000
    assert host(precision="bf16", nodes=2) == 4 * 6 * 1000
    assert host(precision="fp32") == 8 * 4 * 1000
    assert host(precision="bf16", nodes=2, offload=True) == 4 * 6 * 1000 + MASTER * 800 // 2
    assert host(precision="bf16", processes=1) == MASTER * 800
    full = Planner(laptop(monkeypatch), KNOWN).model("clip")
    row = Planner(laptop(monkeypatch), KNOWN).tune_row([full])
    assert row["host_gb"] == MASTER * full.trained / 1e9


def test_frozen_encoders_save_two_thirds_of_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    study = laptop(monkeypatch)
    training = study.training.model_dump(mode="json")
    training["tune"]["train_encoders"] = False
    joint = Planner(study, KNOWN)
    model, frozen = joint.model("sam"), Planner(laptop(monkeypatch, training=training), KNOWN).model("sam")
    saved = model.tune_flops - frozen.tune_flops
    questions = joint.training_samples * study.training.tune.epochs
    assert saved == 2 * joint.encoders["sam"].flops * questions
    assert frozen.trained == model.parameters - joint.encoders["sam"].parameters


def test_records_that_are_there_are_counted_staged_ones_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    records = {"records": "tune.json", "pictures": "pictures"}
    study = laptop(monkeypatch)
    training = study.training.model_dump(mode="json")
    training["data"] = dict.fromkeys(("align", "tune", "probe"), records)
    plan = study.plan.model_dump(mode="json") | {"training_samples": 737000}
    study = laptop(monkeypatch, study="mine", training=training, plan=plan)
    monkeypatch.chdir(tmp_path)
    assert count_training_samples(study) == 737000
    text = 'Is "conversations": here, or \\"conversations\\" : there?'
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "conversations"}]
    rows = [{"id": n, "conversations": turns, "note": "conversations"} for n in range(300)]
    monkeypatch.setattr(costs, "BLOCK", 257)  # keys lie across the parts that are read
    Path("tune.json").write_text(json.dumps(rows, indent=1))
    assert count_training_samples(study) == 300
    (staged := Path("results/mine/records/tune/tune.jsonl")).parent.mkdir(parents=True)
    staged.write_text("".join(json.dumps(row) + "\n" for row in rows[:7]))
    assert count_training_samples(study) == 7


def test_a_long_plan_shows_how_far_it_is_though_stderr_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    list(progress.show_progress(range(3), "models", "subset"))
    assert capsys.readouterr().err == "", "a short one shows nothing"
    monkeypatch.setattr(progress, "QUIET", 0)
    list(progress.show_progress(range(3), "models", "subset"))
    assert "3/3" in capsys.readouterr().err
    rule = (ROOT / "workflow/rules/plan.smk").read_text()
    assert "tee {log:q} >&2" in rule, "a log alone would be silent"


def test_a_mask_costs_the_answers_and_not_the_encoders_again(monkeypatch: pytest.MonkeyPatch) -> None:
    planner = Planner(laptop(monkeypatch), KNOWN)
    model = planner.model("clip+sam")
    eyes = planner.encoders["clip"].flops + planner.encoders["sam"].flops
    assert model.predict_flops - model.answer_flops == planner.questions * eyes


def test_answers_take_their_own_precisions_bytes_and_ranks_four_a_weight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluation = laptop(monkeypatch).evaluation.model_dump(mode="json") | {"precision": "bf16"}
    memory = {}
    for name, study in (
        ("fp32", laptop(monkeypatch)),
        ("bf16", laptop(monkeypatch, evaluation=evaluation)),
    ):
        planner = Planner(study, KNOWN)
        largest = planner.model(study.full).parameters
        eyes = sum(size.parameters for size in planner.encoders.values())
        memory[name] = pd.DataFrame(plan_rows(study)[0]).set_index("rule")["memory_gb"] * 1e9
    for rule in ("predict_subset", "predict_masks"):
        assert (memory["fp32"][rule], memory["bf16"][rule]) == pytest.approx((4 * largest, 2 * largest))
    for rule in ("measure_pretrained_ranks", "measure_ranks"):
        assert memory["fp32"][rule] == memory["bf16"][rule] == pytest.approx(4 * eyes)


def test_variants_that_share_sizes_have_those_of_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    study = load_study(Path("config.yaml"), Path("studies/laptop_levels.yaml"))
    few_encoders = {"pool": ["clip", "sam"], "subsets": ["clip"], "variants": {}}
    known: KnownSizes = {}
    widths = set()
    for varied in study.variants.values():
        few = Study.model_validate(varied.model_dump(mode="json") | few_encoders)
        shared, alone = Planner(few, known), Planner(few)
        assert (shared.encoders, shared.levels) == (alone.encoders, alone.levels)
        widths.add(shared.levels["clip"])
    assert len(widths) > 1, "variants with other levels"


def test_the_command_writes_both_tables_and_says_what_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = laptop(monkeypatch, subsets=["clip"])
    small = study.model_dump(mode="json")
    small["plan"]["memory_gb"] = 1e-6
    settings = tmp_path / "study.json"
    settings.write_text(json.dumps(small))
    plan_study(settings=settings, output=tmp_path / "plan.csv", models=tmp_path / "models.csv")
    output = capsys.readouterr().out
    assert "TOO LITTLE" in output and "one CPU core" in output
    models = pd.read_csv(tmp_path / "models.csv").set_index("subset")
    assert list(models.index) == ["clip", "clip+sam", "blind"]
    assert models.loc["clip+sam", "parameters"] > models.loc["clip", "parameters"]
    largest = 3 * 12 * models["trained"].max() / 1e9
    assert f"{largest:,.1f} GB for each training that runs at once (2 kept, one being written)" in output
    assert pd.read_csv(tmp_path / "plan.csv")["device_hours"].sum() > 0
    rules = pd.read_csv(tmp_path / "plan.csv")
    assert "TOO LITTLE" not in describe_plan(study, rules, models.reset_index().assign(variant=""))


def test_without_an_architecture_nothing_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    study = laptop(monkeypatch)
    spec = study.encoders["sam"].model_copy(update={"source": "owner/sam", "revision": "main"})
    with pytest.raises(StudyError, match=r"encoders\.sam: to plan with it, give its `library_config`"):
        meta_encoder("sam", spec)
    row = LanguageModelSpec(source="owner/model", revision="main")
    with pytest.raises(StudyError, match="language_model: to plan with it"):
        LanguageModelSizes(row, torch.float32)
