"""A process that runs the steps of a rehearsal one by one: test_rehearsal.py starts two of it.

Starting a process for every step would import torch and DeepSpeed eight times. Step n is the file n.json in
the folder; n.<rank>.code then has the exit code. The file `end` ends it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from encoder_roles.provenance import write_text
from encoder_roles.rehearsal.step import rehearse_step


def run_steps(folder: Path) -> None:
    number, rank = 0, os.environ["RANK"]
    while True:
        job = folder / f"{number}.json"
        while not job.is_file():
            if (folder / "end").is_file():
                return
            time.sleep(0.05)
        code: object = 0
        try:
            rehearse_step(job=job)
        except SystemExit as end:
            code = end.code
        write_text(folder / f"{number}.{rank}.code", str(code))
        number += 1
