"""Stage one: only the connector is trained; the encoders and the language model are frozen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from encoder_roles.data.features import read_features as read_feature_file
from encoder_roles.data.picture_store import PictureStore, open_store
from encoder_roles.encoders.loading import read_spec
from encoder_roles.models.connector import Connector, Levels, projector_inputs
from encoder_roles.models.connectors.factory import build_connector
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import MultiEncoderVLM, load_language_model
from encoder_roles.study.names import StudyError
from encoder_roles.study.stages import AlignStage
from encoder_roles.training.engine import Part
from encoder_roles.training.stages import Run, check_subset, freeze, read_stage, read_training_data, strip
from encoder_roles.training.step import AnswerModel, PictureTokens, Visual

CONNECTOR_FILE = "connector.safetensors"


class FeatureFile:
    """Stored pre-projector features of one encoder, memory-mapped, a row per picture."""

    def __init__(self, path: Path, grid: int, width: int) -> None:
        """Raises StudyError if the features have another grid or width."""
        pictures, self.features = read_feature_file(path)
        self.path, self.rows = path, {picture: row for row, picture in enumerate(pictures)}
        if tuple(self.features.shape) != (len(pictures), grid, grid, width):
            raise StudyError(
                f"{path}: features have shape {list(self.features.shape)}, "
                f"expected {[len(pictures), grid, grid, width]}; extract them again"
            )

    def read(self, pictures: Sequence[str]) -> Tensor:
        """Features (B, G, G, D) of these pictures; without pictures, zeros (1, G, G, D).

        Raises StudyError if a picture has no features.
        """
        if missing := [picture for picture in pictures if picture not in self.rows]:
            raise StudyError(f"{self.path}: no features of picture {missing[0]!r}; extract them again")
        if not pictures:
            return torch.zeros_like(self.features[:1])
        return self.features[torch.tensor([self.rows[picture] for picture in pictures], dtype=torch.long)]


def read_stores(files: Sequence[Path], widths: Mapping[str, int], grid: int) -> dict[str, FeatureFile]:
    """The files `features/<encoder>/train.safetensors` of the subset's encoders, in pool order.

    Raises StudyError if they are the files of other encoders.
    """
    if (encoders := [file.parent.name for file in files]) != list(widths):
        raise StudyError(f"features: files of {encoders}, expected those of {list(widths)}")
    return {file.parent.name: FeatureFile(file, grid, widths[file.parent.name]) for file in files}


class StoredTokens:
    """Visual tokens from stored features; no encoder is loaded."""

    def __init__(self, connector: Connector, files: Sequence[Path], levels: Levels, grid: int) -> None:
        self.connector, self.levels = connector, levels
        self.stores = read_stores(files, {name: sum(widths) for name, widths in levels.items()}, grid)

    def begin(self, pictures: Iterable[str]) -> None:
        """See `Visual`: the files are memory-mapped, so nothing has to be read ahead."""

    def __call__(self, pictures: Sequence[str]) -> Tensor:
        """See `Visual`."""
        weight = next(self.connector.parameters())
        features = {name: store.read(pictures).to(weight) for name, store in self.stores.items()}
        tokens: Tensor = self.connector(projector_inputs(features, self.levels))
        return tokens


def parts_on_features(
    folders: Mapping[str, Path], language_model: Path, features: Sequence[Path], stage: AlignStage, seed: int
) -> tuple[dict[str, Any], Visual]:
    """A new connector, the language model, and the source of visual tokens: stored features."""
    levels = {name: read_spec(folder)[1] for name, folder in folders.items()}
    language = load_language_model(language_model)
    connector = build_connector(levels, stage.connector, language.config.get_text_config().hidden_size, seed)
    visual = StoredTokens(connector, features, levels, stage.connector.grid)
    return {"connector": connector, "language_model": language}, visual


def parts_on_pictures(
    folders: Mapping[str, Path],
    language_model: Path,
    root: Path,
    store: PictureStore | None,
    stage: AlignStage,
    seed: int,
) -> tuple[dict[str, Any], Visual]:
    """As `parts_on_features`, with the encoders, which read the pictures below `root` or from the store."""
    model = MultiEncoderVLM.from_sources(folders, language_model, stage.connector, seed)
    parts = {
        "connector": model.connector,
        "language_model": model.language_model,
        **dict(model.encoders.items()),
    }
    return parts, PictureTokens(model, root, store)


def train_align(
    *,
    settings: Path,
    subset: str,
    seed: int,
    encoders: tuple[Path, ...],
    language_model: Path,
    features: tuple[Path, ...] = (),
    data: Path,
    restart: Path,
    output: Path,
    pictures: tuple[Path, ...] = (),
) -> None:
    """Train the connector of one subset, from stored features or, where they are too large, from pixels.

    The data are captions and questions, packed as in tune: at laptop scale there are too few steps to train
    the connector on captions alone. Writes connector.safetensors, log.jsonl and training.json to `output`.

    Args:
        settings: settings/align.json.
        subset: the encoders' names joined with `+`.
        seed: of the connector's initial weights and of the order of the data.
        encoders: the staged encoder folders of the subset, in pool order; with stored features only their
            encoder.json is read.
        language_model: the staged language model with its tokenizer.
        features: features/<encoder>/train.safetensors of the subset, in pool order; empty if computed.
        data: LLaVA-format JSONL; pictures are found relative to its folder.
        restart: folder of restart checkpoints, outside the output.
        output: the folder to write, whole or not at all.
        pictures: folders of framed pictures, where features are computed; without them every file is decoded.

    Raises:
        StudyError: an input is missing, damaged or not the subset's, or the loss is not finite.
    """
    stage, process = read_stage(settings, AlignStage)
    folders = check_subset(subset, encoders)
    if not folders:
        raise StudyError(f"subset {subset!r} has no connector to align")
    if stage.align.features == "stored":
        parts, visual = parts_on_features(folders, language_model, features, stage, seed)
    else:
        store = open_store(pictures, data.parent)
        parts, visual = parts_on_pictures(folders, language_model, data.parent, store, stage, seed)
    connector, language = parts["connector"], parts["language_model"]
    for name, part in parts.items():
        if name != "connector":
            freeze(part)
    inputs = (*encoders, language_model, *features, data)
    run = Run("align", subset, seed, stage, inputs, process, restart, output)
    records = read_training_data(data, load_tokenizer(language_model), language, connector.tokens, stage)
    batches = run.batches(records, stage.align.steps * stage.align.batch_pictures)
    trained = {"connector": Part(connector, stage.align.learning_rate)}

    def write(folder: Path, weights: dict[str, Tensor]) -> None:
        save_file(strip(weights, "parts.connector."), folder / CONNECTOR_FILE)

    run.train(AnswerModel(parts, visual), batches, connector.tokens, trained, write)
