"""The config files and keys of a `snakemake` call, checked before Snakemake reads them itself.

Snakemake reads them before any Snakefile. Some faults it does not report (a section given twice), others end
in a traceback (text that is not UTF-8).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from encoder_roles.study.config_files import check_text, read_config


def check_command_line(arguments: Sequence[str]) -> None:
    """Read a Snakemake call's config files, those of its profile too, and the values of its `--config`.

    Args:
        arguments: sys.argv; a call of another program is not checked.

    Raises:
        StudyError: a file or a section is faulty. A missing file is left to Snakemake, which names it.
    """
    if not any("snakemake" in part for part in Path(arguments[0]).parts[-2:]):
        return
    known = _known(arguments[1:])
    for path in _config_files(known):
        if path.exists():
            read_config(path)
    for entry in known.config:
        key, _, value = entry.partition("=")
        if value.lstrip().startswith(("{", "[")):  # else Snakemake takes it for text or a number
            check_text(key, value)


def _known(arguments: Sequence[str]) -> argparse.Namespace:
    """The options among the arguments that bring config files or keys; none if Snakemake reports a fault."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", default=[])
    parser.add_argument("--config", "-C", nargs="*", default=[])
    parser.add_argument("--profile", default="none")
    try:
        return parser.parse_known_args(arguments)[0]
    except argparse.ArgumentError:
        return parser.parse_args([])


def _config_files(known: argparse.Namespace) -> Iterator[Path]:
    """The config files among the options, and those in the profile among them."""
    yield from map(Path, known.configfile)
    profile = Path(known.profile) / "config.yaml"
    if not profile.is_file():
        return
    try:
        keys = yaml.safe_load(profile.read_bytes())
    except yaml.YAMLError:
        return  # Snakemake reports it
    value = keys.get("configfile") if isinstance(keys, dict) else None
    for name in value if isinstance(value, list) else [value] if value else []:
        yield profile.parent / str(name)
