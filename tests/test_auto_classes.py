"""The ecosystem: transformers' Auto classes load our models, in either order of import; every model has a
card."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tiny_encoders
import torch
import yaml
from tiny_language_model import write_tiny_language_model
from tiny_study import TUNE

from encoder_roles.models.vlm import MultiEncoderVLM
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import ConnectorSettings
from encoder_roles.study.stages import TuneStage
from encoder_roles.training.card import model_card


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> MultiEncoderVLM:
    folder = tmp_path_factory.mktemp("sources")
    encoders = tiny_encoders.write_pool(folder / "encoders", ("clip", "sam"))
    settings = ConnectorSettings(grid=2)
    return MultiEncoderVLM.from_sources(encoders, write_tiny_language_model(folder / "lm"), settings, 0)


@pytest.fixture(scope="module")
def saved(model: MultiEncoderVLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder)
    return folder


LOAD = "print(*(type(kind.from_pretrained({!r})).__name__ for kind in (AutoModel, AutoConfig)))"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "imports",
    [
        "import encoder_roles; from transformers import AutoConfig, AutoModel",
        "from transformers import AutoConfig, AutoModel; import encoder_roles",
    ],
)
def test_auto_model_loads_ours_whichever_package_is_imported_first(imports: str, saved: Path) -> None:
    assert run(f"{imports}; {LOAD.format(str(saved))}") == "MultiEncoderVLM MultiEncoderConfig"


def test_importing_the_package_imports_neither_torch_nor_transformers() -> None:
    heavy = "[m for m in ('torch', 'transformers', 'pydantic', 'numpy') if m in sys.modules]"
    assert run(f"import encoder_roles, sys; print({heavy})") == "[]"


def test_auto_model_gives_the_weights_that_were_saved_in_the_type_asked_for(
    model: MultiEncoderVLM, saved: Path
) -> None:
    from transformers import AutoModel

    loaded = AutoModel.from_pretrained(saved)
    assert all(torch.equal(weight, loaded.state_dict()[n]) for n, weight in model.state_dict().items())
    for dtype in (torch.bfloat16, "bfloat16"):
        assert {w.dtype for w in AutoModel.from_pretrained(saved, dtype=dtype).parameters()} == {
            torch.bfloat16
        }
    with pytest.raises(StudyError, match="device_map is not supported"):
        MultiEncoderVLM.from_pretrained(saved, device_map="auto")


def test_a_model_card_says_subset_parts_recipe_and_data(model: MultiEncoderVLM, tmp_path: Path) -> None:
    data = tmp_path / "train.jsonl"
    data.write_text("{}\n")
    stage = TuneStage.model_validate(TUNE)
    card = model_card("clip+sam", 3, model, stage, data)
    assert card == model_card("clip+sam", 3, model, stage, data)
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "transformers"
    assert body.startswith("\n# clip+sam, seed 3\n")
    recipe = yaml.safe_load(body.split("```yaml\n")[1].split("```")[0])
    assert TuneStage.model_validate(recipe) == stage
    for part in (*model.encoders.values(), model.connector, model.language_model):
        assert f"| {sum(weight.numel() for weight in part.parameters()):,} |" in body
    assert "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356" in body  # sha256 of "{}\n"
    assert "4 visual tokens" in body


def test_a_card_names_the_repositories_that_a_model_was_made_from(
    model: MultiEncoderVLM, tmp_path: Path
) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n")
    encoder = model.encoders["clip"]
    spec = encoder.spec
    encoder.spec = spec.model_copy(update={"source": "openai/clip", "revision": "main"})
    card = model_card("clip+sam", 0, model, TuneStage.model_validate(TUNE), tmp_path / "train.jsonl")
    encoder.spec = spec
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == ["openai/clip"]
    assert "openai/clip@main" in card
