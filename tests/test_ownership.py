"""No override writes into the results of another study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from encoder_roles.study.names import StudyError
from encoder_roles.study.ownership import refuse_changed_results, refuse_foreign_name

MAIN, OTHER = Path("config.yaml"), Path("studies/ci.yaml")


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout whose config.yaml is the study `laptop`, and studies/ci.yaml the study `ci`."""
    monkeypatch.chdir(tmp_path)
    MAIN.write_text("study: laptop\n")
    OTHER.parent.mkdir()
    OTHER.write_text("study: ci\n")


def override(text: str, name: str = "mine.yaml") -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "changes", "name", "message"),
    [
        (
            "pool: [clip]\n",
            {},
            "laptop",
            "mine.yaml: names no study, so it would write to that of config.yaml",
        ),
        ("study: laptop\n", {}, "laptop", "mine.yaml: laptop is the study of config.yaml"),
        ("study: ci\n", {}, "ci", "mine.yaml: ci is the study of studies/ci.yaml"),
        ("study: own\n", {"study": "ci"}, "ci", "--config study: ci is the study of studies/ci.yaml"),
        ("study: own\n", {"study": "laptop"}, "laptop", "--config study: laptop is the study of config.yaml"),
    ],
)
def test_an_override_with_the_study_of_another_file_is_refused(
    text: str, changes: dict[str, str], name: str, message: str
) -> None:
    with pytest.raises(StudyError, match=message) as error:
        refuse_foreign_name(name, [MAIN, override(text)], changes)
    assert "\n" not in str(error.value)


def test_a_study_of_ones_own_is_free_to_run() -> None:
    refuse_foreign_name("laptop", [MAIN], {})
    refuse_foreign_name("laptop", [MAIN], {"study": "laptop"})
    refuse_foreign_name("ci", [MAIN, OTHER], {})
    refuse_foreign_name("own", [MAIN, override("study: own\n")], {})
    refuse_foreign_name("own", [MAIN, override("pool: [clip]\n")], {"study": "own"})
    refuse_foreign_name("own", [MAIN, override("study: own\n"), override("seeds: [0]\n", "seeds.yaml")], {})
    written = override("study: laptop\n", "results/laptop/settings/study.json")
    refuse_foreign_name("laptop", [MAIN, written], {})  # what the study itself wrote


def test_a_key_on_the_command_line_may_not_change_finished_results() -> None:
    settings = {"study": "laptop", "seeds": [0], "jobs": {}}
    folder = Path("results/laptop")
    changed = settings | {"seeds": [0, 1]}
    refuse_changed_results(folder, changed, ["seeds"])  # nothing is there
    override(json.dumps(settings), "results/laptop/settings/study.json")
    refuse_changed_results(folder, changed, ["seeds"])  # nothing is finished
    override("{}", "results/laptop/manifest.json")
    with pytest.raises(StudyError, match="--config seeds: would change results/laptop, which is finished"):
        refuse_changed_results(folder, changed, ["seeds"])
    refuse_changed_results(folder, settings, ["seeds"])  # the value that it has
    refuse_changed_results(folder, settings | {"jobs": {"align": {}}}, ["jobs"])  # costs time alone
