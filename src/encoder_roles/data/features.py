"""Pre-projector features of pictures: stored once for frozen encoders, streamed for effective ranks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from encoder_roles.data.llava import distinct_pictures
from encoder_roles.data.pictures import PictureReader
from encoder_roles.encoders.compute import choose_device
from encoder_roles.encoders.encoder import PICTURES_PER_PASS, Encoder
from encoder_roles.encoders.framing import map_by_size
from encoder_roles.encoders.loading import load_encoder
from encoder_roles.models.grid import grid_features
from encoder_roles.provenance import atomic_file
from encoder_roles.study.names import StudyError
from encoder_roles.study.stages import FeatureStage, read_settings


def extract_features(*, settings: Path, encoder: Path, data: Path, output: Path) -> None:
    """Store a pretrained encoder's features of all training pictures, for the align stage of every subset.

    They are computed in fp32 on every device and for every precision of training, which rounds what it reads.

    Args:
        settings: settings/features.json.
        encoder: encoders/<name>.
        data: data/train/train.jsonl; pictures are taken in order of first appearance.
        output: features/<name>/train.safetensors: `features` (pictures, grid, grid, width) fp32; the
            paths of the pictures in train.jsonl, as the JSON list `pictures` in the metadata.

    Raises:
        StudyError: the data, a picture or the encoder is missing or damaged; or there are no pictures.
    """
    stage = read_settings(settings, FeatureStage)
    torch.set_num_threads(stage.threads)
    pictures = list(distinct_pictures(data))
    if not pictures:
        raise StudyError(f"{data}: no record has a picture; nothing to extract")
    network = load_encoder(encoder).to(choose_device())
    paths = [data.parent / picture for picture in pictures]
    features = torch.empty(len(paths), stage.grid, stage.grid, network.width)
    start = 0
    for batch in stream_features({network.name: network}, paths, stage.grid):
        block = batch[network.name]
        features[start : start + len(block)] = block
        start += len(block)
    with atomic_file(output) as temporary:
        save_file({"features": features}, temporary, metadata={"pictures": json.dumps(pictures)})


def stream_features(
    encoders: Mapping[str, Encoder], paths: Sequence[Path], grid: int
) -> Iterator[dict[str, Tensor]]:
    """Features (B, grid, grid, D) of every encoder, batch by batch, in order, for pictures of any size.

    They are on the CPU; the encoders' device holds only those of one pass.
    """
    reader = PictureReader(encoder.frame for encoder in encoders.values())
    for pictures in reader.portions(paths, PICTURES_PER_PASS):
        yield {
            name: map_by_size(
                partial(_in_passes, encoder, grid), [framed[encoder.frame] for framed in pictures]
            )
            for name, encoder in encoders.items()
        }


def _in_passes(encoder: Encoder, grid: int, framed: Tensor) -> Tensor:
    """Features (B, grid, grid, D), on the CPU, for framed pictures of one size."""
    with torch.inference_mode():
        passes = framed.split(encoder.pictures_per_pass)
        return torch.cat([grid_features(encoder, encoder.normalise(part), grid).cpu() for part in passes])


def read_features(path: Path) -> tuple[list[str], Tensor]:
    """Read the pictures' paths and features (pictures, grid, grid, width) that `extract_features` wrote.

    Raises:
        StudyError: the file is missing, truncated or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            features: Tensor = file.get_tensor("features")
            pictures = json.loads((file.metadata() or {})["pictures"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise StudyError(f"{path}: not a whole file of features ({error}); extract them again") from None
    if len(pictures) != len(features):
        raise StudyError(f"{path}: {len(features)} rows for {len(pictures)} pictures; extract them again")
    return pictures, features
