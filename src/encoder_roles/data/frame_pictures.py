"""`encoder-roles frame-pictures`: decode and frame a study's pictures once, for all jobs that read pixels."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from tqdm import tqdm

from encoder_roles.data.picture_store import write_store
from encoder_roles.data.pictures import PictureReader
from encoder_roles.encoders.loading import read_frame
from encoder_roles.provenance import read_jsonl
from encoder_roles.study.names import StudyError

READ_AT_ONCE = 64  # pictures decoded before they are written


def frame_pictures(
    *,
    encoders: tuple[Path, ...],
    output: Path,
    records: Path | None = None,
    requests: Path | None = None,
    threads: int = 1,
) -> None:
    """Store the pictures of a file of records, or of a folder of requests, in the encoders' frames.

    Args:
        encoders: staged encoder folders; encoders with equal frames share one array.
        output: the folder to write; it appears only when it is complete.
        records: LLaVA-format JSONL, such as train.jsonl or probe.jsonl.
        requests: the folder that write-requests wrote; give either this or `records`.
        threads: threads that decode pictures.

    Raises:
        StudyError: a picture is missing or damaged, or the pictures of a frame differ in size.
    """
    if (records is None) == (requests is None):
        raise StudyError("frame-pictures: give either --records or --requests")
    if records is not None:
        root, names = records.parent, picture_names([records])
    else:
        assert requests is not None
        root, names = requests, picture_names(sorted(requests.glob("*.jsonl")))
    torch.set_num_threads(threads)
    frames = {read_frame(folder) for folder in encoders}
    portions = PictureReader(frames).portions([root / name for name in names], READ_AT_ONCE)
    pictures = itertools.chain.from_iterable(portions)
    shown = tqdm(pictures, "framing", len(names), unit="picture", file=sys.stderr, disable=None)
    write_store(names, shown, frames, output)


def picture_names(files: Iterable[Path]) -> list[str]:
    """The distinct pictures that records (`image`) or requests (`images`) name, in order of first appearance.

    Raises StudyError, which names the file, if one cannot be read.
    """
    names: dict[str, None] = {}
    for file in files:
        try:
            for row in read_jsonl(file):
                pictures = row["images"] if "images" in row else [row.get("image")]
                names |= dict.fromkeys(name for name in pictures if name is not None)
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise StudyError(f"{file}: not a list of pictures ({error}); make it again") from None
    return list(names)
