"""Makes torchvision importable with another build of torch. Import it before transformers models, timm and
open_clip.

torchvision from PyPI is built for CUDA. With a CPU build of torch its C extension does not load. torchvision
then describes two undefined operators, and `import torchvision` fails, as does every library that imports it.
Declaring the two schemas is enough: transforms work, and nothing here calls nms. If the builds match, or
torchvision is not installed, importing this module changes nothing.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _extension_loads(package: Path) -> bool:
    """Whether torchvision's C extension, which defines its operators, loads into this torch."""
    extensions = sorted(p for p in package.glob("_C*") if p.suffix in {".so", ".pyd", ".dylib"})
    try:
        for extension in extensions:
            torch.ops.load_library(str(extension))
    except OSError:
        return False
    return bool(extensions)


def make_torchvision_importable() -> bool:
    """Declare the two operators if torchvision's extension does not load. True if they were declared."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or _extension_loads(Path(spec.origin).parent):
        return False
    if hasattr(torch.ops.torchvision, "nms"):
        return False
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", _SCHEMA)
    return True


make_torchvision_importable()
