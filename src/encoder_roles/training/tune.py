"""Stage two: connector, language model and, by default, the encoders are trained together, from pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from encoder_roles.data.picture_store import open_store
from encoder_roles.encoders.weights import load_strictly, read_tensors
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import MultiEncoderVLM
from encoder_roles.provenance import write_text
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import TuneSettings
from encoder_roles.study.stages import TuneStage
from encoder_roles.training.align import CONNECTOR_FILE
from encoder_roles.training.card import model_card
from encoder_roles.training.engine import Part
from encoder_roles.training.stages import Run, check_subset, freeze, read_stage, read_training_data, strip
from encoder_roles.training.step import AnswerModel, PictureTokens


def load_connector(model: MultiEncoderVLM, align: Path | None, subset: str) -> None:
    """Load the connector that `align` trained into the model. Raises StudyError if it does not fit."""
    if (model.connector is None) != (align is None):
        need = "needs no" if model.connector is None else "needs an"
        raise StudyError(f"subset {subset!r} {need} align folder")
    if model.connector is not None and align is not None:
        file = align / CONNECTOR_FILE
        load_strictly(model.connector, read_tensors(file), file)


def model_parts(model: MultiEncoderVLM) -> dict[str, nn.Module]:
    """The parts of the model that have their own learning rates, by name."""
    connector = {} if model.connector is None else {"connector": model.connector}
    return {**connector, "language_model": model.language_model, **dict(model.encoders.items())}


def trained_parts(model: MultiEncoderVLM, settings: TuneSettings) -> dict[str, Part]:
    """The parts to train, each with its learning rate; other encoders are frozen."""
    rates, trained = settings.learning_rates, {}
    for name, module in model_parts(model).items():
        if name in model.encoders and not settings.train_encoders:
            freeze(module)
            continue
        encoder_rate = rates.by_encoder.get(name, rates.encoders)
        rate = encoder_rate if name in model.encoders else getattr(rates, name)
        trained[name] = Part(module.train(), rate)
    return trained


def train_tune(
    *,
    settings: Path,
    subset: str,
    seed: int,
    encoders: tuple[Path, ...] = (),
    language_model: Path,
    align: Path | None = None,
    data: Path,
    restart: Path,
    output: Path,
    pictures: tuple[Path, ...] = (),
) -> None:
    """Train the model of one subset; the model `blind` reads the same questions without pictures.

    Writes the whole model with its tokenizer and model card, log.jsonl and training.json to `output`.

    Args:
        settings: settings/tune.json.
        subset: the encoders' names joined with `+`, or `blind`.
        seed: of the order of the data; the connector starts with the weights of align.
        encoders: the staged encoder folders of the subset, in pool order.
        language_model: the staged language model with its tokenizer.
        align: the folder written by train-align; None for `blind`.
        data: LLaVA-format JSONL; pictures are found relative to its folder.
        restart: folder of restart checkpoints, outside the output.
        output: the folder to write, whole or not at all.
        pictures: folders of framed pictures; without them every file is decoded.

    Raises:
        StudyError: an input is missing, damaged or not the subset's, or the loss is not finite.
    """
    stage, process = read_stage(settings, TuneStage)
    model = MultiEncoderVLM.from_sources(
        check_subset(subset, encoders), language_model, stage.connector, seed
    )
    load_connector(model, align, subset)
    tokenizer = load_tokenizer(language_model)
    records = read_training_data(data, tokenizer, model.language_model, model.tokens_per_picture, stage)
    inputs = (*encoders, language_model, *([] if align is None else [align]), data)
    run = Run("tune", subset, seed, stage, inputs, process, restart, output)
    batches = run.batches(records, stage.tune.epochs * len(records))

    def write(folder: Path, weights: dict[str, Tensor]) -> None:
        model.write(folder, whole_model(model, weights))
        tokenizer.save_pretrained(folder)
        write_text(folder / "README.md", model_card(subset, seed, model, stage, data))

    visual = PictureTokens(model, data.parent, open_store(pictures, data.parent))
    step = AnswerModel(model_parts(model), visual)
    run.train(step, batches, model.tokens_per_picture, trained_parts(model, stage.tune), write)


def whole_model(model: MultiEncoderVLM, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of all parts, by their names in the model."""
    renamed = {}
    for part in model_parts(model):
        prefix = f"encoders.{part}." if part in model.encoders else f"{part}."
        renamed.update({prefix + name: value for name, value in strip(weights, f"parts.{part}.").items()})
    return renamed
