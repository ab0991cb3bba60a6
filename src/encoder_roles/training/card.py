"""The model card of a tuned model: which subset it is, its parts, recipe and data.

Equal runs write equal cards: no date, no measured time.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from torch import nn

from encoder_roles.encoders.encoder import Encoder
from encoder_roles.models.vlm import MultiEncoderVLM
from encoder_roles.provenance import sha256_of
from encoder_roles.study.names import BLIND
from encoder_roles.study.sections import EncoderSpec
from encoder_roles.study.stages import TuneStage


def model_card(subset: str, seed: int, model: MultiEncoderVLM, stage: TuneStage, data: Path) -> str:
    """README.md of a tune folder; every number in it is counted or a setting.

    Args:
        subset, seed: which model it is.
        model: as trained.
        stage: the settings it was trained with.
        data: the training file; its hash is in the card.
    """
    encoders = [(name, part) for name, part in model.encoders.items() if isinstance(part, Encoder)]
    sources = [encoder.spec.source for _, encoder in encoders if encoder.spec.hub]
    head = {"library_name": "transformers", "pipeline_tag": "image-text-to-text", "tags": ["encoder-roles"]}
    front = yaml.safe_dump(head | ({"base_model": sources} if sources else {}), sort_keys=True)
    named = "no vision encoder" if subset == BLIND else "the vision encoders " + subset.replace("+", ", ")
    return f"""---
{front}---

# {subset}, seed {seed}

A vision-language model with {named}, trained by `encoder-roles train-tune` as one of the subsets of a study.

```python
import encoder_roles
from transformers import AutoModel

model = AutoModel.from_pretrained("<this folder>")
```

## Parts

| part | what it is | parameters |
|---|---|---|
{_parts(model, encoders)}

A picture becomes {model.tokens_per_picture:,} visual tokens.

## Recipe

Stage `tune`{"" if subset == BLIND else ", after `align` of the connector with the same seed"}. Its settings:

```yaml
{yaml.safe_dump(stage.model_dump(mode="json", exclude_none=True), sort_keys=False).strip()}
```

## Data

`{data.name}`, SHA-256 {sha256_of(data)}; training.json says how many samples were drawn from it.

## Scores

Not part of this folder, which was made before them: `encoder-roles export-model` copies it with the scores
that the study's scores.csv has of subset `{subset}` and seed {seed}.
"""


def _parts(model: MultiEncoderVLM, encoders: list[tuple[str, Encoder]]) -> str:
    rows = [(f"encoder {name}", _encoder(encoder.spec, encoder), encoder) for name, encoder in encoders]
    lines = [f"| {part} | {what} | {_count(module)} |" for part, what, module in rows]
    if model.connector is not None:
        kind = model.connector.settings
        lines.append(f"| connector | {kind.kind}, grid {kind.grid} | {_count(model.connector)} |")
    language = model.language_model
    lines.append(f"| language model | {language.config.model_type} | {_count(language)} |")
    return "\n".join(lines)


def _encoder(spec: EncoderSpec, encoder: Encoder) -> str:
    source = f"{spec.source}@{spec.revision}" if spec.revision else spec.source
    layers = ", ".join(map(str, spec.layers))
    return f"{source}, {spec.pixels} px ({spec.aspect}), layer {layers}, {encoder.width:,} channels"


def _count(module: nn.Module) -> str:
    return f"{sum(weight.numel() for weight in module.parameters()):,}"
