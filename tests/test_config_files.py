"""Config files as people write them: a value means what it looks like, or one line names file and line."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encoder_roles.cluster.site import read_site
from encoder_roles.study.command_line import check_command_line
from encoder_roles.study.config import Study, load_study, validate_study
from encoder_roles.study.config_files import merge, read_config
from encoder_roles.study.names import StudyError

ROOT = Path(__file__).resolve().parent.parent
CONFIG, _ = read_config(ROOT / "config.yaml")
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LONG = settings(QUICK, max_examples=4000)

READ = {  # text of a file -> what it means
    "a: 1e-3": {"a": 0.001},
    "a: 1e2": {"a": 100.0},
    "a: -.5E3": {"a": -500.0},
    "a: 1_000": {"a": 1000},
    "a: 2026-11-28": {"a": "2026-11-28"},
    "a: 1.2.3": {"a": "1.2.3"},
    "a: '010'": {"a": "010"},
    "\ufeffa: 1\r\nb: x\r\n": {"a": 1, "b": "x"},
    "a: &x {b: 1}\nc: {<<: *x, d: 2}": {"a": {"b": 1}, "c": {"b": 1, "d": 2}},
}
REFUSED = {  # text of a file -> what the one line says after the file
    "a: 1\nb: 2\na: 3": ", line 3: a: given twice, first in line 1",
    "a: {b: 1, b: 2}": ", line 1: b: given twice",
    "a: 010": ", line 1: 010 means 8 in YAML",
    "a: 1:30": ", line 1: 1:30 means 90 in YAML",
    "a: 2026-13-45": ", line 1: '2026-13-45': month must be in 1..12",
    "a: 0b_": ", line 1: '0b_': ",
    "a:\n\tb: 1": ", line 2: found character",
    "a: 1\n1: x": ", line 2: the key 1 is not text",
    "null: x": ", line 1: the key None is not text",
    "on: x": ", line 1: the key True is not text",
    "? [a]\n: b": ", line 1: the key ['a'] is not text",
    "a: !!binary aa": ", line 1: 'aa' has the YAML tag",
    "a: !!set {x}": ", line 1: the YAML tag",
    "a: &a [*a]": ": sections are nested too deeply",
    "a: " + "[" * 5000: ": sections are nested too deeply",
    "a: 1\n---\nb: 2": ", line 2: but found another document",
    "a: \x00": ": is not YAML",
    "": ": must be a YAML mapping of keys, not an empty file",
    "- a": ": must be a YAML mapping of keys, not list",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.yaml"


@pytest.mark.parametrize("text", READ)
def test_a_value_means_what_it_looks_like(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="")
    assert read_config(file)[0] == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_could_mean_something_else_is_one_line_with_the_file_and_the_line(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(StudyError) as error:
        read_config(file)
    message = str(error.value)
    assert message.startswith(f"{file}{REFUSED[text]}") and "\n" not in message


def test_text_that_is_not_utf_8_is_one_line_with_its_line(file: Path) -> None:
    file.write_bytes("study: own\n# Größe\n".encode("latin-1"))
    with pytest.raises(StudyError, match=r"mine\.yaml, line 2: is not UTF-8 text"):
        load_study(ROOT / "config.yaml", file)


def test_aliases_that_multiply_are_refused_in_no_time(file: Path) -> None:
    levels = [f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]" for i in range(1, 10)]
    file.write_text("\n".join(["x0: &x0 [1, 1]", *levels]))
    with pytest.raises(StudyError, match="values; remove YAML aliases"):
        read_config(file)


def test_an_override_of_a_section_changes_no_other_that_was_its_alias(file: Path, tmp_path: Path) -> None:
    file.write_text("a: &shared {x: 1}\nb: *shared\n")
    merged, _ = read_config(file)
    merge(merged, {"b": {"x": 2}})
    assert merged == {"a": {"x": 1}, "b": {"x": 2}}


FAULTS = {  # an override -> what the line says of it
    "pool:\n  - clip:\n  - siglip:": "pool.0: must be a valid string, not {'clip': None} ({file}, line 2)",
    "pool: [clip_l]\nencoders: {clip_l: openai/clip}": "encoders.clip_l: must be a section of keys",
    "encoders: {clip: text}": "encoders.clip: must be a section of keys, not 'text' ({file}, line 1)",
    "variants: {mlp: {}, x: {encoders: {clip: text}}}": "variants.x.encoders.clip: must be a section",
    "encoders: {clip: text}\nvariants: {mlp: {}, x: {encoders: {clip: {layer: 1}}}}": "encoders.clip: must",
    "pool: [on, clip]": "pool.0: must be a valid string, not True; YAML reads on, off, yes and no as",
    "pool: [CLIP]": "pool.0: must be lower-case letters, digits and _, and begin with a letter, not 'CLIP'",
    "seeds: [99999999999999999999]": "seeds.0: must be less than 4294967296, not 99999999999999999999",
    f"study: {'a' * 65}": "study: must have at most 64 characters",
    "world:": "world: must be a section of keys, not None ({file}, line 1)",
    "training: {tune: {weight_decay: .nan}}": "training.tune.weight_decay: must be",
    "training: {tune: {epochs: yes}}": "training.tune.epochs: must be a number, not True ({file}, line 1)",
    "training: {tune: {learning_rates: {by_encoder: {sam: on}}}}": "rates.by_encoder.sam: must be a number",
    "training: {tune: {clip_norm: .inf}}": "training.tune.clip_norm: must be a finite number",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_faulty_value_is_one_line_with_the_file_line_and_key(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(StudyError) as error:
        load_study(ROOT / "config.yaml", file)
    assert FAULTS[text].replace("{file}", str(file)) in str(error.value)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_an_exponent_is_a_number_for_whole_numbers_too(file: Path) -> None:
    file.write_text("training: {align: {learning_rate: 3e-3, steps: 1e2}}")
    align = load_study(ROOT / "config.yaml", file).training.align
    assert (align.learning_rate, align.steps) == (0.003, 100)


def test_a_value_of_the_command_line_means_what_it_means_in_a_file() -> None:
    # Snakemake reads a section or a list as text throughout
    changes = {"seeds": ["0", "1"], "training": {"align": {"steps": "1e2"}, "tune": {"weight_decay": "3e-3"}}}
    study = load_study(ROOT / "config.yaml", changes={"pool": ["clip", "sam"], "scores": "null", **changes})
    assert (study.seeds, study.pool, study.scores) == ((0, 1), ("clip", "sam"), None)
    assert (study.training.align.steps, study.training.tune.weight_decay) == (100, 0.003)
    with pytest.raises(StudyError, match=r"^--config world.train_scenes: 010 means 8 in YAML"):
        load_study(ROOT / "config.yaml", changes={"world": {"train_scenes": "010"}})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("training={align: {steps: 1, steps: 2}}", "--config training: steps: given twice"),
        ("training={align: {steps: 1}", "--config training: "),
        ("pool=[clip, sam", "--config pool: "),
    ],
)
def test_a_faulty_section_on_the_command_line_is_one_line(entry: str, message: str) -> None:
    for option in ("--config", "-C"):
        with pytest.raises(StudyError) as error:
            check_command_line(["/bin/snakemake", option, "study=own", entry, "--", "paper"])
        assert str(error.value).startswith(message) and "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["--configfile", "--configfiles", "--profile"])
def test_the_files_of_a_snakemake_call_are_checked_before_it_reads_them(file: Path, option: str) -> None:
    file.write_text("a: 1\na: 2\n")
    (file.parent / "config.yaml").write_text(f"configfile: {file.name}\n")
    value = str(file.parent) if option == "--profile" else str(file)
    with pytest.raises(StudyError, match=r"mine\.yaml, line 2: a: given twice"):
        check_command_line(["/bin/snakemake", "-n", option, value, "--cores", "1"])
    check_command_line(["/bin/pytest", option, value])
    check_command_line(["/bin/snakemake", "--config", "study=own", "--configfile"])
    check_command_line(["/bin/snakemake", "--configfile", str(file.with_name("absent.yaml"))])


def test_a_site_file_is_read_with_the_same_care(file: Path) -> None:
    file.write_text("# all as it is\n")
    assert read_site(file).account is None
    file.write_text("account: a\naccount: b\n")
    with pytest.raises(StudyError, match=r"mine\.yaml, line 2: account: given twice"):
        read_site(file)


def paths(section: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The path of every key of a config."""
    result = [(*above, key) for key in section]
    for key, value in section.items():
        result += paths(value, (*above, key)) if isinstance(value, dict) else []
    return result


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.binary(max_size=3),
    st.sampled_from(["1e-3", "on", "no", "clip", "clip+sam", "blind", "all", "010", "1:30", "~", " x ", "0"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=5), SCALARS), inner, max_size=3),
    ),
    max_leaves=6,
)
WORDS = "study pool world encoders clip training variants : - { } [ ] , &a *a !!int !!set << ? | ' # --- 1e3"
PIECES = st.sampled_from(
    [*WORDS.split(), ": ", "- ", ", ", "&a ", "!!int ", "? ", "\n", "  ", "\t", '"', "\r\n", "\ufeff"]
)
TEXTS = st.lists(st.one_of(PIECES, st.text(max_size=3)), max_size=25).map("".join)


def outcome(file: Path, override: bytes) -> Study | None:
    """A valid study, or None after one line that names the file; anything else is an error of the test."""
    file.write_bytes(override)
    merged = copy.deepcopy(CONFIG)
    try:
        merge(merged, read_config(file)[0])
        return validate_study(merged, str(file))
    except StudyError as error:
        assert str(error).startswith(str(file)) and len(str(error).splitlines()) == 1, str(error)
        return None


TRUE, FALSE = (
    ("true", "1", "1.0", "on", "yes", "y", "t"),
    ("false", "0", "0.0", "-0.0", "off", "no", "n", "f"),
)


def check_value(file: Path, path: tuple[str, ...], value: object) -> None:
    """A key set to any value is that value in the study, or an error."""
    override: object = value
    for key in reversed(path):
        override = {key: override}
    study = outcome(file, yaml.safe_dump(override, allow_unicode=True).encode("utf-8", "surrogatepass"))
    if study is None or isinstance(value, (dict, list)) or path[0] in ("variants", "scores"):
        return
    section: Any = study.model_dump()
    for key in path:
        section = section[key]
    if isinstance(section, bool):
        assert str(value).lower() in {True: TRUE, False: FALSE}[section], (path, value)
    elif isinstance(section, (int, float)):
        assert not isinstance(value, bool) and float(str(value)) == section, (path, value, section)
    else:
        assert value == section or str(value) == section, (path, value, section)


@QUICK
@given(st.sampled_from(paths(CONFIG)), VALUES)
def test_any_value_of_any_key_is_taken_as_it_is_or_is_one_line(
    file: Path, path: tuple[str, ...], value: object
) -> None:
    check_value(file, path, value)


@QUICK
@given(st.one_of(TEXTS.map(lambda text: text.encode("utf-8", "ignore")), st.binary(max_size=40)))
def test_any_file_is_a_valid_study_or_one_line(file: Path, override: bytes) -> None:
    outcome(file, override)


@pytest.mark.fuzz
@LONG
@given(st.sampled_from(paths(CONFIG)), VALUES)
def test_any_value_of_any_key_in_a_long_run(file: Path, path: tuple[str, ...], value: object) -> None:
    check_value(file, path, value)


@pytest.mark.fuzz
@LONG
@given(st.one_of(TEXTS.map(lambda text: text.encode("utf-8", "ignore")), st.binary(max_size=200)))
def test_any_file_in_a_long_run(file: Path, override: bytes) -> None:
    outcome(file, override)
