"""The config files of a `snakemake` call, checked before Snakemake reads them itself.

Snakemake reads the files of `--configfile` before any Snakefile. Some faults it does not report (a section
given twice), others end in a traceback (text that is not UTF-8).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from encoder_roles.study.config_files import read_config


def check_command_line(arguments: Sequence[str]) -> None:
    """Read every config file that a call of Snakemake names, directly or through its profile.

    Args:
        arguments: sys.argv; a call of another program is not checked.

    Raises:
        StudyError: a file is faulty. A missing file is left to Snakemake, which names it.
    """
    if not any("snakemake" in part for part in Path(arguments[0]).parts[-2:]):
        return
    for path in _config_files(arguments[1:]):
        if path.exists():
            read_config(path)


def _config_files(arguments: Sequence[str]) -> Iterator[Path]:
    """The config files among the arguments, and those in the profile among them."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", default=[])
    parser.add_argument("--profile", default="none")
    try:
        known, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        return  # Snakemake reports it
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
