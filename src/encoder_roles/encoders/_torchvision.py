"""Makes torchvision importable beside a torch of another build; import this before transformers models, timm,
open_clip.

torchvision from PyPI is built for CUDA. Beside a CPU torch its C extension does not load, torchvision then
describes two operators nobody defined, and `import torchvision` fails; with it fails every library that
imports torchvision. Declaring the two schemas is enough: transforms work, and nobody here calls nms. Where
the builds match, or torchvision is not installed, importing this module changes nothing.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _extension_loads(package: Path) -> bool:
    """Whether torchvision's C extension, the library that defines its operators, loads into this torch."""
    extensions = sorted(p for p in package.glob("_C*") if p.suffix in {".so", ".pyd", ".dylib"})
    try:
        for extension in extensions:
            torch.ops.load_library(str(extension))
    except OSError:
        return False
    return bool(extensions)


def make_torchvision_importable() -> bool:
    """Declare the two operators if torchvision's own extension cannot; True if that was done."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _extension_loads(Path(spec.origin).parent):
        return False
    if hasattr(torch.ops.torchvision, "nms"):
        return False
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", _SCHEMA)
    return True


make_torchvision_importable()
