"""Stage one: the connector learns to speak to a frozen language model, from cached features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from encoder_roles.data.features import read_features
from encoder_roles.encoders.loading import read_spec
from encoder_roles.models.connector import projector_inputs
from encoder_roles.models.connectors.factory import build_connector
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import load_language_model
from encoder_roles.provenance import whole_folder
from encoder_roles.study import AlignStage, StudyError, read_settings
from encoder_roles.training.batches import Batches, PicturePrompts
from encoder_roles.training.engine import Part, TorchEngine
from encoder_roles.training.loop import Schedule
from encoder_roles.training.stages import Run, check_subset, freeze, read_training_data
from encoder_roles.training.step import AnswerTask

CONNECTOR_FILE = "connector.safetensors"


class FeatureFile:
    """Cached pre-projector features of one encoder, mapped from the file, row by picture."""

    def __init__(self, path: Path, grid: int, width: int) -> None:
        pictures, self.features = read_features(path)
        self.path, self.rows = path, {picture: row for row, picture in enumerate(pictures)}
        if tuple(self.features.shape) != (len(pictures), grid, grid, width):
            raise StudyError(
                f"{path}: features have shape {list(self.features.shape)}, "
                f"expected {[len(pictures), grid, grid, width]}; extract them again"
            )

    def check(self, data: Path, pictures: list[PicturePrompts]) -> None:
        """Raise StudyError if a picture of the training data has no features."""
        for picture in pictures:
            for path in picture.pictures:
                if path not in self.rows:
                    raise StudyError(
                        f"{self.path}: no features of picture {path!r} of {data}; extract them again"
                    )

    def read(self, pictures: tuple[str, ...]) -> Tensor:
        """Features (B, G, G, D) of these pictures."""
        return self.features[torch.tensor([self.rows[picture] for picture in pictures], dtype=torch.long)]


def read_stores(
    files: Sequence[Path], widths: Mapping[str, int], grid: int, data: Path, pictures: list[PicturePrompts]
) -> dict[str, FeatureFile]:
    """The feature files `features/<encoder>/train.safetensors` of the subset's encoders, in pool order."""
    if (given := [file.parent.name for file in files]) != list(widths):
        raise StudyError(f"features: files of {given}, expected those of {list(widths)}")
    stores = {file.parent.name: FeatureFile(file, grid, widths[file.parent.name]) for file in files}
    for store in stores.values():
        store.check(data, pictures)
    return stores


def train_align(
    *,
    settings: Path,
    subset: str,
    seed: int,
    encoders: tuple[Path, ...],
    language_model: Path,
    features: tuple[Path, ...],
    data: Path,
    restart: Path,
    output: Path,
) -> None:
    """Train the connector of one subset; encoders are not even loaded, their features are read from files.

    The data are captions and questions packed as in tune: at laptop scale captions alone teach the connector
    too little in so few steps. Writes connector.safetensors, log.jsonl and training.json to `output`.

    Args:
        settings: settings/align.json.
        subset: the encoders' names joined with `+`.
        seed: of the connector's initial weights and of the order of the data.
        encoders: the staged encoder folders of the subset, in pool order; only their encoder.json is read.
        language_model: the staged language model with its tokenizer.
        features: features/<encoder>/train.safetensors of the subset, in pool order.
        data: LLaVA-format JSONL.
        restart: folder of restart checkpoints, outside the output.
        output: the folder to write, whole or not at all.
    """
    stage = read_settings(settings, AlignStage)
    torch.set_num_threads(stage.threads)
    folders = check_subset(subset, encoders)
    if not folders:
        raise StudyError(f"subset {subset!r} has no connector to align")
    levels = {name: read_spec(folder)[1] for name, folder in folders.items()}
    language = load_language_model(language_model)
    freeze(language)
    hidden = language.config.get_text_config().hidden_size
    connector = build_connector(levels, stage.connector, hidden, seed)
    pictures = read_training_data(data, load_tokenizer(language_model), language, connector.tokens)
    widths = {name: sum(found) for name, found in levels.items()}
    stores = read_stores(features, widths, stage.connector.grid, data, pictures)
    align = stage.align
    batches = Batches(
        pictures,
        samples=align.steps * align.batch_pictures,
        batch_pictures=align.batch_pictures,
        questions=align.questions_per_picture,
        seed=seed,
        stage="align",
    )

    def visual_tokens(names: tuple[str, ...]) -> Tensor:
        tokens: Tensor = connector(
            projector_inputs({name: store.read(names) for name, store in stores.items()}, levels)
        )
        return tokens

    run = Run("align", subset, seed, stage, inputs=(*encoders, language_model, *features, data))
    task = AnswerTask(run.title, batches, language, connector.tokens, visual_tokens)
    engine = TorchEngine(
        {"connector": Part(connector, align.learning_rate)}, align.weight_decay, align.clip_norm
    )
    schedule = Schedule(len(batches), align.warmup_fraction)
    log = run.train(engine, task, schedule, restart, align.learning_rate)
    with whole_folder(output) as folder:
        save_file(connector.state_dict(), folder / CONNECTOR_FILE)
        run.write_records(folder, log, task, {"connector": connector, "language_model": language})
    run.checkpoints(restart).remove()
