"""How a config file is read: YAML in which a value means what it looks like, or an error of one line.

YAML 1.1 reads `1e-3` as text, `010` as 8 and `1:30` as 90, and lets a second section replace the first. Here
an exponent makes a number, a date is text, and what two readers would read differently is an error.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from encoder_roles.study.names import StudyError

MOST_VALUES = 20_000  # of one file; a bomb of YAML aliases has billions
TAG = "tag:yaml.org,2002:"
PLAIN_TAGS = frozenset(TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp"))
NUMBER = r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)"
FRACTION = r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)"
NO_NUMBER = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
FLOAT = rf"(?:{NUMBER}[eE][-+]?[0-9]+|{FRACTION}|{NO_NUMBER})"
AMBIGUOUS = r"[-+]?0[0-9_]+|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"  # octal or not; base 60 or not

Lines = dict[tuple[str, ...], int]  # the path of a key or entry -> its line
Places = dict[tuple[str, ...], str]  # the same -> the file and line that set it last


class ConfigLoader(yaml.SafeLoader):
    """PyYAML's safe loader, without its surprises. Errors are yaml.MarkedYAMLError."""

    # a copy: resolvers are kept per class and first character
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML types it as an instance's
        first: [(tag, pattern) for tag, pattern in pairs if tag not in (f"{TAG}int", f"{TAG}float")]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node. A tag of another kind, or a value with two readings, is an error."""
        if not isinstance(node, yaml.ScalarNode):
            if node.tag not in (f"{TAG}map", f"{TAG}seq"):
                raise _error(node, f"the YAML tag {node.tag} cannot be read here; remove it")
            return super().construct_object(node, deep=deep)
        implicit = self.resolve(yaml.ScalarNode, node.value, (True, False))  # type: ignore[no-untyped-call]
        if node.tag not in PLAIN_TAGS or node.tag not in (f"{TAG}str", implicit):
            raise _error(node, f"{node.value!r:.40} has the YAML tag {node.tag}; put the value in quotes")
        try:
            value = super().construct_object(node, deep=deep)
        except ValueError as error:
            raise _error(node, f"{node.value!r:.40}: {error}; put it in quotes") from None
        if node.tag != f"{TAG}str" and re.fullmatch(AMBIGUOUS, node.value):
            raise _error(node, f"{node.value} means {value} in YAML; write that number, or put it in quotes")
        return node.value if node.tag == f"{TAG}timestamp" else value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping whose keys are text, each given once; `<<` may bring defaults for them."""
        seen: dict[str, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == f"{TAG}merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _error(key_node, f"the key {key!r:.40} is not text; put it in quotes")
            if key in seen:
                raise _error(key_node, f"{key}: given twice, first in line {seen[key]}; join the two")
            seen[key] = key_node.start_mark.line + 1
        return super().construct_mapping(node, deep=deep)


ConfigLoader.add_implicit_resolver(f"{TAG}float", re.compile(rf"^{FLOAT}$"), list("-+0123456789."))
ConfigLoader.add_implicit_resolver(
    f"{TAG}int",
    re.compile(rf"^(?:[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)|{AMBIGUOUS})$"),
    list("-+0123456789"),
)


def read_config(path: Path, *, may_be_empty: bool = False) -> tuple[dict[str, Any], Lines]:
    """A config file, and the line of each of its keys. Raises StudyError: one line with file and line.

    Args:
        path: the file.
        may_be_empty: whether a file without any key is {}; an error if not.
    """
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StudyError(f"{path}: cannot be read: {reason}; correct the path") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise StudyError(f"{path}, line {line}: is not UTF-8 text; save the file as UTF-8") from None
    try:
        config, lines = _parse(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise StudyError(f"{where}: {_one_line(error.problem or error.context)}") from None
    except yaml.YAMLError as error:
        raise StudyError(f"{path}: is not YAML: {_one_line(error)}; correct it") from None
    except RecursionError:
        raise StudyError(f"{path}: sections are nested too deeply to be read; flatten them") from None
    if config is None and may_be_empty:
        return {}, lines
    if not isinstance(config, dict):
        kind = "an empty file" if config is None else type(config).__name__
        raise StudyError(f"{path}: must be a YAML mapping of keys, not {kind}; write `key: value` lines")
    return config, lines


def merge(base: dict[str, Any], override: Mapping[str, Any]) -> None:
    """Put `override` into `base`: mappings are merged key by key, anything else (lists too) is replaced.

    A revision belongs to its repository: a section with another `source` and no `revision` has none.
    """
    if "source" in override and "revision" not in override and override["source"] != base.get("source"):
        base.pop("revision", None)
    for key, value in override.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            merge(base[key], value)
        else:
            base[key] = value


def read_values(key: str, value: Any) -> Any:
    """What a value of `snakemake --config` means; Snakemake leaves the values in a section or list as text.

    Args:
        key: the key, for a message.
        value: the value, as Snakemake gives it.

    Raises:
        StudyError: a value has two readings.
    """
    if isinstance(value, Mapping):
        return {name: read_values(f"{key}.{name}", entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [read_values(f"{key}.{place}", entry) for place, entry in enumerate(value)]
    if not isinstance(value, str):
        return value
    loader = ConfigLoader("")
    tag = loader.resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]
    try:
        return loader.construct_object(yaml.ScalarNode(tag, value)) if tag in PLAIN_TAGS else value
    except yaml.MarkedYAMLError as error:
        raise StudyError(f"--config {key}: {error.problem} (quotes need a config file)") from None
    finally:
        loader.dispose()


def check_text(key: str, text: str) -> None:
    """Raise StudyError, one line with the key, if a section or list on a command line is faulty YAML."""
    try:
        _parse(text)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise StudyError(f"--config {key}: {_one_line(problem)}") from None


def read_configs(paths: Iterable[Path]) -> tuple[dict[str, Any], Places]:
    """Config files merged in their order, and where each key was set last. Raises StudyError."""
    merged: dict[str, Any] = {}
    places: Places = {}
    for path in paths:
        config, lines = read_config(path)
        merge(merged, config)
        places |= places_in(path, lines)
    return merged, places


def places_in(path: Path, lines: Lines) -> Places:
    """The file and line of each key, for a message."""
    return {key: f"{path}, line {line}" for key, line in lines.items()}


def _parse(text: str) -> tuple[Any, Lines]:
    """The value in a config's text, and the line of each key. Raises YAMLError or RecursionError."""
    loader = ConfigLoader(text)
    try:
        root = loader.get_single_node()
        lines: Lines = {}
        if root is None:
            return None, lines
        _add_lines(root, (), lines)
        return _unshared(loader.construct_document(root)), lines
    finally:
        loader.dispose()


def _unshared(value: Any) -> Any:
    """A copy in which a YAML alias is a value of its own, so that an override of one changes no other."""
    if isinstance(value, dict):
        return {key: _unshared(entry) for key, entry in value.items()}
    return [_unshared(entry) for entry in value] if isinstance(value, list) else value


def _add_lines(node: yaml.Node, path: tuple[str, ...], lines: Lines) -> None:
    """Note the line of every key and entry under a node. Raises YAMLError on too many: aliases multiply."""
    if len(lines) > MOST_VALUES:
        raise _error(node, f"more than {MOST_VALUES} values; remove YAML aliases that repeat each other")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                inner = (*path, key.value)
                lines[inner] = key.start_mark.line + 1
                _add_lines(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            inner = (*path, str(number))
            lines[inner] = entry.start_mark.line + 1
            _add_lines(entry, inner, lines)


def _error(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _one_line(message: object) -> str:
    return " ".join(str(message).split())
