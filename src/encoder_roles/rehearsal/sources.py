"""The networks of a rehearsal: the study's staged ones, or networks of their sizes with random weights."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from encoder_roles.encoders.loading import build_network
from encoder_roles.encoders.timm_trunks import OPEN_CLIP_TRUNK
from encoder_roles.provenance import write_json
from encoder_roles.sources.stage_encoder import stage_encoder
from encoder_roles.sources.stage_language_model import stage_language_model
from encoder_roles.study.config import Study
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import EncoderSpec, LanguageModelSpec

SEED = 0
WORDS = ("what", "is", "in", "the", "picture", "a", "red", "circle")
SPECIAL = {"pad": "<pad>", "bos": "<bos>", "eos": "<eos>", "unk": "<unk>"}
CHAT_TEMPLATE = (
    "{{ '<bos>' }}{% for message in messages %}{% if message['role'] == 'user' %}{{ message['content'] }}"
    "{% else %}{{ ' <answer> ' + message['content'] + ' <eos>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' <answer>' }}{% endif %}"
)


def source_of(study: Study, results: Path, name: str, stated: str) -> Path | None:
    """The folder that a network is staged from: made by the study, or the config's; None if none is here.

    Args:
        study: the study.
        results: results/<study>.
        name: `encoders/<encoder>` or `language_model`.
        stated: the `source` of the config.
    """
    made = "pretrained" if study.sources == "train" else "fetched"
    places = [results / made / name]
    places += [] if name in study.hub_sources or study.sources == "train" else [Path(stated)]
    return next((place for place in places if any(place.rglob("*.safetensors"))), None)


def prepare_encoder(
    study: Study, results: Path, name: str, settings: Path, output: Path
) -> tuple[Path, bool]:
    """A staged encoder, and whether its weights are random.

    Args:
        study: the study.
        results: results/<study>, whose staged encoder is used where it is.
        name: the encoder.
        settings: settings/encoder_<name>.json.
        output: encoders/<name> of the rehearsal, written if the study has none.

    Raises:
        StudyError: as `stage_encoder`; or there is neither a folder nor a `library_config`.
    """
    if (staged := results / "encoders" / name).is_dir():
        return staged, False
    spec = study.encoders[name]
    source = source_of(study, results, f"encoders/{name}", spec.source)
    if source is not None:
        stage_encoder(settings=settings, source=source, output=output)
        return output, False
    _stage_random(
        output,
        lambda folder: write_random_encoder(name, spec, folder),
        lambda folder: stage_encoder(settings=settings, source=folder, output=output),
    )
    return output, True


def prepare_language_model(study: Study, results: Path, settings: Path, output: Path) -> tuple[Path, bool]:
    """As `prepare_encoder`, for the language model; random weights have a tokenizer of a few words."""
    if (staged := results / "language_model").is_dir():
        return staged, False
    source = source_of(study, results, "language_model", study.language_model.source)
    if source is not None:
        stage_language_model(settings=settings, source=source, output=output)
        return output, False
    write_json(
        settings, {"chat_template": None}
    )  # a real model's template has words that this tokenizer lacks
    _stage_random(
        output,
        lambda folder: write_random_language_model(study.language_model, folder),
        lambda folder: stage_language_model(settings=settings, source=folder, output=output),
    )
    return output, True


def _stage_random(output: Path, write: Callable[[Path], None], stage: Callable[[Path], None]) -> None:
    """Write random weights beside the output, stage them, and remove them: they may be large."""
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".random-", dir=output.parent))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            write(folder)
        stage(folder)
    finally:
        shutil.rmtree(folder)


def write_random_encoder(name: str, spec: EncoderSpec, folder: Path) -> None:
    """The complete network of a row's `library_config` with random weights, in its library's own format.

    Raises:
        StudyError: the row has no `library_config`.
    """
    config = spec.library_config
    if config is None:
        raise StudyError(
            f"encoders.{name}: to rehearse with it, give its `library_config`, or fetch it into {spec.source}"
        )
    network: Any = build_network(name, spec, config)
    if spec.library == "transformers":
        network.save_pretrained(folder)
        return
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    if spec.library == "timm":
        save_file(weights, folder / "model.safetensors")
        arguments = config["arguments"]
        write_json(folder / "config.json", {"architecture": config["architecture"], "model_args": arguments})
        return
    save_file({OPEN_CLIP_TRUNK + key: value for key, value in weights.items()}, folder / spec.weight_files)
    vision = {"timm_model_name": config["architecture"]}
    write_json(folder / "open_clip_config.json", {"model_cfg": {"vision_cfg": vision}})


def write_random_language_model(spec: LanguageModelSpec, folder: Path) -> None:
    """The language model of a `library_config` with random weights, and a tokenizer of WORDS.

    Raises:
        StudyError: the row has no `library_config`.
    """
    if spec.library_config is None:
        raise StudyError(
            f"language_model: to rehearse with it, give its `library_config`, or fetch it into {spec.source}"
        )
    row = dict(spec.library_config)
    config = AutoConfig.for_model(row.pop("model_type"), **row)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    vocabulary = {token: place for place, token in enumerate((*SPECIAL.values(), "<answer>", *WORDS))}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL["unk"]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    roles = {f"{role}_token": token for role, token in SPECIAL.items()}
    tokenizer: Any = PreTrainedTokenizerFast(
        tokenizer_object=backend, **roles, additional_special_tokens=["<answer>"]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
