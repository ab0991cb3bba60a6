"""Where a study's results are, for the last lines of `make paper`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from encoder_roles.study.config import load_study
from encoder_roles.study.names import StudyError

PLACES = {
    "paper": "paper/paper.pdf",
    "figures": "figures/",
    "tables": "tables/",
    "scores": "scores.csv",
    "claims": "claims.json",
    "report": "report.html",
}


def locate_results(*, configs: tuple[Path, ...], only: Literal["report"] | None = None) -> None:
    """Print where the results of a study are.

    Args:
        configs: config.yaml and the study that overrides it, if any.
        only: print this place alone, whether it is there yet or not.

    Raises:
        StudyError: the config is faulty, or a result has not been made.
    """
    folder = Path("results") / load_study(*configs).study
    if only:
        print(folder / PLACES[only])
        return
    for what, place in PLACES.items():
        if not (folder / place).exists():
            raise StudyError(f"{folder / place}: not made yet; run `make paper`")
        print(f"{what:<8} {folder / place}{'/' * place.endswith('/')}")
