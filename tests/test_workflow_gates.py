"""The gates of the sources: a missed one stops the run, by the config's choice."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from encoder_roles.provenance import write_json
from encoder_roles.study.names import StudyError
from encoder_roles.world.gates import COLUMNS, check_gates


def write_gates(path: Path, *rows: tuple[str, str, float, float | str]) -> Path:
    """A source's gates.csv: source, gate, value and threshold; `passed` claims the best."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(
            (s, g, value, value - 2, value + 2, 500, threshold, "true") for s, g, value, threshold in rows
        )
    return path


def check(folder: Path, gates: str, *files: Path) -> list[dict[str, str]]:
    """Run check-gates; the rows it wrote."""
    write_json(folder / "gates.json", {"gates": gates})
    check_gates(settings=folder / "gates.json", gates=files, output=folder / "gates.csv")
    with (folder / "gates.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_gates_that_are_passed_are_all_in_the_table(tmp_path: Path) -> None:
    clip = write_gates(
        tmp_path / "clip/gates.csv", ("clip", "colour", 99, 90), ("clip", "random features", 40, "")
    )
    text = write_gates(tmp_path / "lm/gates.csv", ("language_model", "mme", 95, 95))
    rows = check(tmp_path, "stop", clip, text)
    assert [(row["gate"], row["passed"]) for row in rows] == [
        ("colour", "true"),
        ("random features", ""),
        ("mme", "true"),
    ]


def test_missed_gates_stop_the_run_and_are_all_named_whatever_the_source_claims(tmp_path: Path) -> None:
    file = write_gates(tmp_path / "sam/gates.csv", ("sam", "count", 80, 90), ("sam", "size", 94.9, 95))
    with pytest.raises(StudyError, match=r"sam: count 80 < 90; sam: size 94\.9 < 95") as error:
        check(tmp_path, "stop", file)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "gates.csv").exists()


def test_missed_gates_are_only_reported_where_the_config_says_so(tmp_path: Path) -> None:
    file = write_gates(tmp_path / "sam/gates.csv", ("sam", "count", 80, 90))
    assert [row["passed"] for row in check(tmp_path, "report", file)] == ["false"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("source,gate\nclip,colour\n", "has columns"),
        (",".join(COLUMNS) + "\nclip,colour,high,1,2,500,90,true\n", "line 2: could not convert"),
        (",".join(COLUMNS) + "\nclip,colour\n", "line 2"),
        (",".join(COLUMNS) + "\n", "holds no gate"),
        (None, "No such file"),
    ],
)
def test_gates_that_cannot_be_read_are_told_with_their_file(
    tmp_path: Path, text: str | None, message: str
) -> None:
    file = tmp_path / "clip.csv"
    if text is not None:
        file.write_text(text)
    with pytest.raises(StudyError, match=rf"clip\.csv: .*{message}"):
        check(tmp_path, "stop", file)
