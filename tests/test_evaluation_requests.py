"""Requests: rendered by lmms-eval, hashed, complete, and refused when anything about them is odd."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from benchmark_cases import make_rows, picture_bytes, write_case

from encoder_roles.benchmarks.rows import SCHEMAS, picture_cell, write_rows
from encoder_roles.benchmarks.table import ANSWER_TOKENS, TABLE, TASKS, read_table
from encoder_roles.evaluation.requests import read_manifest, read_requests, write_requests
from encoder_roles.manifest.code import code_of
from encoder_roles.provenance import sha256_of, write_json
from encoder_roles.study.names import BENCHMARKS, GROUPS, StudyError

ROWS = 12


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for benchmark in BENCHMARKS:
        write_case(folder, benchmark, ROWS)
    render(folder, folder / "requests", BENCHMARKS)
    return folder


def render(data: Path, output: Path, benchmarks: tuple[str, ...]) -> None:
    settings = data / f"{output.name}.json"
    settings.write_text(json.dumps({"benchmarks": benchmarks}))
    write_requests(settings=settings, data=data, output=output)


def test_requests_repeat_byte_for_byte(cases: Path, tmp_path: Path) -> None:
    render(cases, tmp_path / "again", BENCHMARKS)
    first = {f.relative_to(cases / "requests"): sha256_of(f) for f in (cases / "requests").rglob("*.*")}
    again = {f.relative_to(tmp_path / "again"): sha256_of(f) for f in (tmp_path / "again").rglob("*.*")}
    assert first == again


def test_every_prompt_ends_with_the_suffix_of_the_table(cases: Path) -> None:
    for benchmark, task in TASKS.items():
        for request in read_requests(cases / "requests", benchmark):
            assert request.prompt.endswith(task.suffix), benchmark
            assert 0 < request.max_new_tokens <= ANSWER_TOKENS


def test_the_manifest_counts_and_hashes_what_lies_there(cases: Path) -> None:
    manifest = read_manifest(cases / "requests")
    assert set(manifest) == set(BENCHMARKS)
    for benchmark, entry in manifest.items():
        requests = read_requests(cases / "requests", benchmark)
        assert entry["n"] == len(requests) == len({r.id for r in requests})
        assert entry["clusters"] == len({r.cluster for r in requests})
        assert benchmark in GROUPS[entry["group"]]


def test_pictures_are_named_by_their_bytes_and_equal_ones_are_stored_once(cases: Path) -> None:
    shown = {i for b in BENCHMARKS for r in read_requests(cases / "requests", b) for i in r.images}
    stored = list((cases / "requests/images").iterdir())
    assert shown == {f"images/{f.name}" for f in stored}
    assert all(f.stem == sha256_of(f)[:16] for f in stored)
    assert len(stored) < ROWS  # all benchmarks of the cases share their pictures


def test_rows_outside_the_benchmark_are_not_asked_and_ids_are_places_in_the_file(cases: Path) -> None:
    kept = [str(i) for i in range(ROWS) if i % 7 != 3]  # the others are about videos
    assert [r.id for r in read_requests(cases / "requests", "seed")] == kept


def test_clusters_are_pairs_circles_images_and_pictures(cases: Path) -> None:
    clusters = {b: [r.cluster for r in read_requests(cases / "requests", b)] for b in BENCHMARKS}
    assert clusters["mmvp"] == [str(i // 2) for i in range(ROWS)]
    assert clusters["gqa"] == [str(i // 3) for i in range(ROWS)]
    assert all(clusters["mme"].count(c) == 2 for c in clusters["mme"])
    pictures = [r.images[0] for r in read_requests(cases / "requests", "chartqa")]
    assert clusters["chartqa"] == pictures


def test_reading_requests_imports_no_lmms_eval() -> None:
    code = (
        "import sys, encoder_roles.evaluation.requests, encoder_roles.benchmarks.table;"
        "sys.exit('lmms_eval' in sys.modules or 'datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_edit_of_the_table_is_an_edit_of_the_code_that_reads_it() -> None:
    code = code_of("encoder_roles.evaluation.requests")
    assert code["encoder_roles/benchmarks/table.yaml"] == sha256_of(TABLE)
    assert TABLE.name not in {Path(file).name for file in code_of("encoder_roles.world.drawing")}


def test_a_row_with_a_key_that_no_benchmark_has_is_refused(tmp_path: Path) -> None:
    row = TASKS["gqa"].model_dump(exclude={"name"})
    write_json(tmp_path / "table.yaml", {"gqa": row})  # JSON is YAML
    assert read_table(tmp_path / "table.yaml") == {"gqa": TASKS["gqa"]}
    write_json(tmp_path / "table.yaml", {"gqa": row | {"sufix": ""}})
    with pytest.raises(ValueError, match="sufix"):
        read_table(tmp_path / "table.yaml")


def test_changed_requests_are_refused(cases: Path, tmp_path: Path) -> None:
    render(cases, tmp_path / "requests", ("gqa",))
    path = tmp_path / "requests/gqa.jsonl"
    path.write_text(path.read_text().replace("word", "letter"))
    with pytest.raises(StudyError, match=r"gqa\.jsonl: its bytes are not those of manifest\.json"):
        read_requests(tmp_path / "requests", "gqa")


@pytest.mark.parametrize("row", [0, 5])
@pytest.mark.parametrize("damage", [lambda png: png[:60], lambda png: b"no picture", lambda png: png[20:]])
def test_a_damaged_picture_is_one_clear_error_and_nothing_is_written(
    tmp_path: Path, row: int, damage
) -> None:
    rows = make_rows("chartqa", ROWS, random.Random(0))
    rows[row]["image"] = picture_cell("x.png", damage(picture_bytes(1, size=64)))
    write_rows(tmp_path / "benchmarks/chartqa/test.parquet", "chartqa", rows)
    with pytest.raises(StudyError, match=rf"chartqa/test\.parquet: row {row}: damaged picture") as caught:
        render(tmp_path, tmp_path / "requests", ("chartqa",))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "requests").exists()


def test_missing_data_columns_and_groups_are_named(cases: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="benchmark 'vqav3' belongs to no group"):
        render(cases, tmp_path / "a", ("vqav3",))
    with pytest.raises(StudyError, match=r"gqa/test\.parquet: no such file"):
        render(tmp_path, tmp_path / "b", ("gqa",))
    (tmp_path / "benchmarks/gqa").mkdir(parents=True)
    pd.DataFrame({"question": ["Q?"]}).to_parquet(tmp_path / "benchmarks/gqa/test.parquet")
    with pytest.raises(StudyError, match=r"needs the columns \['id', 'imageId', 'answer', 'image'\]"):
        render(tmp_path, tmp_path / "c", ("gqa",))


def test_a_row_with_an_unknown_column_or_a_value_of_another_type_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"row 0: no columns \['colour'\]"):
        write_rows(tmp_path / "x.parquet", "gqa", [{"colour": "red"}])
    with pytest.raises(StudyError, match="another type"):
        write_rows(tmp_path / "x.parquet", "mmvp", [{"Index": "first"}])
    assert set(SCHEMAS) == set(BENCHMARKS)
