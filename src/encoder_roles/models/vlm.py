"""The multi-encoder vision-language model: any set of encoders, one connector, one causal language model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from encoder_roles.encoders.compute import dtype_of
from encoder_roles.encoders.encoder import PICTURES_PER_PASS, Encoder
from encoder_roles.encoders.framing import Frame, Framed, frame_picture, map_by_size
from encoder_roles.encoders.loading import build_encoder, load_encoder
from encoder_roles.encoders.pretrained import load_pretrained, plain_config
from encoder_roles.encoders.weights import (
    give_memory,
    load_strictly,
    read_json,
    read_weights,
    without_weights,
)
from encoder_roles.models.connector import LevelNorm
from encoder_roles.models.connectors.factory import build_connector
from encoder_roles.models.grid import grid_features
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import ConnectorSettings, EncoderSpec

CPU = torch.device("cpu")
SHARD = "50GB"  # the most bytes of a file of weights: the default of transformers
UNSUPPORTED = ("device_map", "quantization_config", "adapter_kwargs", "tp_plan")  # of from_pretrained


class MultiEncoderConfig(PreTrainedConfig):
    """All that is needed to build the model without its sources.

    Attributes:
        encoders: in pool order, rows {"name", "spec" (an EncoderSpec), "library_config"}; empty for the blind
            model.
        connector: a ConnectorSettings.
        language_model: the causal language model's own config.
    """

    model_type = "multi_encoder_vlm"

    def __init__(
        self,
        encoders: list[dict[str, Any]] | None = None,
        connector: dict[str, Any] | None = None,
        language_model: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.encoders = encoders or []
        self.connector = connector or {}
        self.language_model = language_model or {}
        super().__init__(**kwargs)


class MultiEncoderVLM(PreTrainedModel):
    """Encoders -> common grid -> connector -> visual tokens -> causal language model.

    No encoder is special: the model is the same function for any order of the pool. A picture's visual tokens
    are `project(projector_inputs(features(pictures)))`; masks and stored features replace an inner value.

    Attributes:
        encoders: ModuleDict name -> Encoder, in pool order; empty for the blind model.
        projector_norms: ModuleDict name -> LevelNorm, which returns the encoder's projector input.
        connector: None for the blind model.
        language_model: a transformers causal language model.
    """

    config_class = MultiEncoderConfig
    main_input_name = "input_ids"
    _supports_sdpa = True

    def __init__(
        self,
        config: MultiEncoderConfig,
        encoders: Mapping[str, Encoder] | None = None,
        language_model: PreTrainedModel | None = None,
        seed: int = 0,
    ) -> None:
        """Build the model from its config, or from parts that are already loaded."""
        super().__init__(config)
        if encoders is None:
            rows = (
                (r["name"], EncoderSpec.model_validate(r["spec"]), r["library_config"])
                for r in config.encoders
            )
            encoders = {name: build_encoder(name, spec, library) for name, spec, library in rows}
        if language_model is None:
            language_model = AutoModelForCausalLM.from_config(_language_config(config), dtype=torch.float32)
        self.encoders = nn.ModuleDict(dict(encoders))
        self.language_model = language_model
        settings = ConnectorSettings.model_validate(config.connector)
        self.grid = settings.grid
        self.hidden = int(language_model.config.get_text_config().hidden_size)
        levels = {name: encoder.widths for name, encoder in encoders.items()}
        self.projector_norms = nn.ModuleDict({name: LevelNorm(widths) for name, widths in levels.items()})
        self.connector = build_connector(levels, settings, self.hidden, seed) if levels else None
        self.post_init()  # type: ignore[no-untyped-call]
        self.eval()  # type: ignore[no-untyped-call]

    def init_weights(self) -> None:
        """Only tie weights: the parts have their weights already."""
        self.tie_weights(recompute_mapping=False)

    @classmethod
    def from_sources(
        cls, encoders: Mapping[str, Path], language_model: Path, connector: ConnectorSettings, seed: int
    ) -> Self:
        """A new model from pretrained folders, with a new connector.

        Args:
            encoders: name -> staged folder, in pool order; empty for the blind model.
            language_model: a `save_pretrained` folder of a causal language model.
            connector: its settings.
            seed: of the connector's initial weights.
        """
        loaded = {name: load_encoder(folder) for name, folder in encoders.items()}
        for name, encoder in loaded.items():
            encoder.name = name
        language = load_language_model(language_model)
        config = MultiEncoderConfig(
            encoders=[
                {
                    "name": name,
                    "spec": encoder.spec.model_dump(mode="json"),
                    "library_config": encoder.library_config,
                }
                for name, encoder in loaded.items()
            ],
            connector=connector.model_dump(mode="json"),
            language_model=plain_config(language.config),
        )
        return cls(config, loaded, language, seed)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        folder: str | Path,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> Self:
        """The model of a `save_pretrained` folder, in evaluation mode. No source folder is read.

        It is stricter than the library's: the file must hold every weight in its shape, and nothing else.
        Weights are converted one by one on their way to the device, so there is one copy, in `dtype`.

        Args:
            folder: a folder of this machine.
            dtype: of the weights; fp32, as they are saved, by default. The pixels' scale and the language
                model's rotary frequencies stay fp32, as in training.
            device: the device of the model.
            options: passed on by `AutoModel.from_pretrained`; those in UNSUPPORTED are errors.

        Raises:
            StudyError: a file or a weight is missing, unexpected, of the wrong shape or damaged.
        """
        if refused := sorted(key for key in UNSUPPORTED if options.get(key)):
            raise StudyError(f"{folder}: {refused[0]} is not supported; set `device`")
        folder = Path(folder)
        config = _read_config(folder)
        weights = read_weights(folder)
        if isinstance(dtype, str):
            dtype = None if dtype == "auto" else getattr(torch, dtype)
        with no_init_weights(), without_weights():
            model = cls(config)
        dtype = dtype or torch.float32
        give_memory(model, dtype, torch.device(device))
        for _, encoder in model._encoders():
            encoder.trunk.to(dtype)  # its buffers too: timm adds some of them to weights
        load_strictly(model, weights, folder)
        return model

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:  # type: ignore[override]
        """Write config.json and model.safetensors with all weights, by their names in this model."""
        super().save_pretrained(save_directory, save_original_format=False, **kwargs)

    def write(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """Write the bytes that `save_pretrained` writes of these weights, without its import of DeepSpeed.

        Args:
            folder: an empty folder.
            weights: all weights, fp32, by their names in the model; a tied weight may stand under each name.
        """
        self.config.dtype, self.config.architectures = "float32", [type(self).__name__]
        self.config.save_pretrained(folder)
        single = {name: value for name, value in weights.items() if name not in self.all_tied_weights_keys}
        pattern = "model{suffix}.safetensors"
        save_torch_state_dict(single, folder, filename_pattern=pattern, max_shard_size=SHARD)

    @property
    def widths(self) -> dict[str, int]:
        """Encoder -> channels of its features, in pool order."""
        return {name: encoder.width for name, encoder in self._encoders()}

    @property
    def levels(self) -> dict[str, tuple[int, ...]]:
        """Encoder -> channels of each of its levels, in pool order."""
        return {name: encoder.widths for name, encoder in self._encoders()}

    @property
    def tokens_per_picture(self) -> int:
        """Visual tokens of one picture; 0 for the blind model."""
        return 0 if self.connector is None else self.connector.tokens

    @property
    def pictures_per_pass(self) -> int:
        """Pictures of one pass through the encoders without gradients."""
        return min((encoder.pictures_per_pass for _, encoder in self._encoders()), default=PICTURES_PER_PASS)

    @property
    def frames(self) -> frozenset[Frame]:
        """The frames of its encoders."""
        return frozenset(encoder.frame for _, encoder in self._encoders())

    def features(self, pictures: Iterable[Tensor]) -> dict[str, Tensor]:
        """uint8 pictures (3, H, W) of any sizes -> `framed_features`."""
        return self.framed_features([frame_picture(picture, self.frames) for picture in pictures])

    def framed_features(self, pictures: Sequence[Framed]) -> dict[str, Tensor]:
        """Framed pictures -> encoder -> pre-projector features (B, G, G, D) on the connector's grid.

        Effective rank is measured on these features. An encoder reads framed pictures of one size together;
        encoders without gradients run without a graph.
        """
        features = {}
        for name, encoder in self._encoders():
            framed = [picture[encoder.frame] for picture in pictures]
            features[name] = map_by_size(partial(self._features_of, encoder), framed)
        return features

    def _features_of(self, encoder: Encoder, framed: Tensor) -> Tensor:
        return grid_features(encoder, encoder.normalise(framed), self.grid)

    def project(self, inputs: Mapping[str, Tensor], pictures: int | None = None) -> Tensor:
        """Projector inputs (B, G, G, D) of every encoder -> visual tokens (B, T, H).

        An encoder without inputs is dropped. If there are no inputs at all, `pictures` is needed. The blind
        model gives (pictures, 0, H).
        """
        if self.connector is not None:
            tokens: Tensor = self.connector(inputs, pictures)
            return tokens
        if pictures is None:
            raise StudyError(
                "blind model: the number of pictures must be given, there are no features to count"
            )
        return next(self.language_model.parameters()).new_zeros(pictures, 0, self.hidden)

    def visual_tokens(self, features: Mapping[str, Tensor], pictures: int | None = None) -> Tensor:
        """Features (B, G, G, D) of every encoder -> visual tokens (B, T, H); see `project`."""
        return self.project(self.projector_inputs(features), pictures)

    def projector_inputs(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features (B, G, G, D) of every encoder -> projector inputs, on which masks act."""
        return {name: self.projector_norms[name](block) for name, block in features.items()}

    def forward(self, inputs_embeds: Tensor, **kwargs: Any) -> Any:
        """Run the language model on embeddings (B, T, H), visual tokens included; `kwargs` are passed on."""
        return self.language_model(inputs_embeds=inputs_embeds, **kwargs)

    def _encoders(self) -> list[tuple[str, Any]]:
        return list(self.encoders.items())


def load_vlm(folder: Path, precision: str = "fp32", device: torch.device = CPU) -> MultiEncoderVLM:
    """The trained model of `models/<subset>/seed<seed>/tune` on a device, at a precision.

    In bf16 all weights are rounded once, encoders included. LLaVA and Cambrian-1 do the same in their
    evaluations (`load_pretrained_model` in builder.py), but round to fp16; bf16 is the type of training here.
    Autocast would keep fp32 weights, take twice the memory, and round them at every use.

    Raises:
        StudyError: as `MultiEncoderVLM.from_pretrained`; or the precision is unknown.
    """
    return MultiEncoderVLM.from_pretrained(folder, dtype_of(precision), device)


def load_trained_encoders(folder: Path, device: torch.device = CPU) -> tuple[dict[str, Encoder], int]:
    """The encoders of a trained model in fp32, in pool order, and its connector's grid.

    Other weights are not read.

    Raises:
        StudyError: as `MultiEncoderVLM.from_pretrained`.
    """
    config = _read_config(folder)
    encoders = {}
    with no_init_weights(), without_weights():
        for row in config.encoders:
            spec = EncoderSpec.model_validate(row["spec"])
            encoders[row["name"]] = build_encoder(row["name"], spec, row["library_config"])
    for name, encoder in encoders.items():
        give_memory(encoder, torch.float32, device)
        load_strictly(encoder, read_weights(folder, prefix=f"encoders.{name}."), folder)
    return encoders, ConnectorSettings.model_validate(config.connector).grid


def load_language_model(folder: Path) -> PreTrainedModel:
    """A causal language model, fp32, in evaluation mode. Raises StudyError if its folder is damaged.

    Some checkpoints have an output layer of their own although their config ties it to the embedding.
    transformers then does not tie them, and here the config says so too: else whoever builds the network
    from its config would lose the layer.
    """
    read_json(folder / "config.json")
    model: PreTrainedModel = load_pretrained(AutoModelForCausalLM, folder)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is not embedding.weight:
        for config in (model.config, model.config.get_text_config()):
            config.tie_word_embeddings = False
    return model


def _read_config(folder: Path) -> MultiEncoderConfig:
    path = folder / "config.json"
    row = read_json(path)
    if row.get("model_type") != MultiEncoderConfig.model_type:
        raise StudyError(f"{path}: model_type is {row.get('model_type')!r}, not a multi-encoder VLM")
    config: MultiEncoderConfig = MultiEncoderConfig.from_dict(row)
    return config


def _language_config(config: MultiEncoderConfig) -> PreTrainedConfig:
    row = dict(config.language_model)
    built: PreTrainedConfig = AutoConfig.for_model(row.pop("model_type"), **row)
    return built


AutoConfig.register(MultiEncoderConfig.model_type, MultiEncoderConfig)
AutoModel.register(MultiEncoderConfig, MultiEncoderVLM)
