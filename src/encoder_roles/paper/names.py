"""Names as the paper prints them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from encoder_roles.study.names import BLIND, GROUPS, NONE_KEPT

_ENCODERS = {
    "clip": "CLIP",
    "siglip": "SigLIP",
    "dinov2": "DINOv2",
    "convnext": "ConvNeXt",
    "sam": "SAM",
    "eva02": "EVA-02",
    "pix2struct": "Pix2Struct",
    "siglip2": "SigLIP2",
    "dinov3": "DINOv3",
    "pe_core": "PE-Core",
    "pe_spatial": "PE-Spatial",
    "aimv2": "AIMv2",
    "dfn": "DFN",
    "internvit": "InternViT",
    "metaclip2": "MetaCLIP2",
    "radio": "RADIO",
    BLIND: "blind",
    NONE_KEPT: "none",
}
_SIZE = re.compile(r"(\w+)_(s|b|l|h|g|xl|xxl|so\d+m|\d+m)")
# benchmark -> its name, and a short one for the head of a narrow column
_BENCHMARKS = {
    "mme": ("MME", "MME"),
    "mmbench": ("MMBench", "MMB"),
    "seed": ("SEED-Image", "SEED"),
    "gqa": ("GQA", "GQA"),
    "scienceqa": ("ScienceQA", "SQA"),
    "mmmu": ("MMMU", "MMMU"),
    "mathvista": ("MathVista", "MathV"),
    "ai2d": ("AI2D", "AI2D"),
    "chartqa": ("ChartQA", "Chart"),
    "ocrbench": ("OCRBench", "OCRB"),
    "textvqa": ("TextVQA", "Text"),
    "docvqa": ("DocVQA", "Doc"),
    "mmvp": ("MMVP", "MMVP"),
    "realworldqa": ("RealWorldQA", "RWQA"),
    "cvbench2d": ("CV-Bench 2D", "CV-2D"),
    "cvbench3d": ("CV-Bench 3D", "CV-3D"),
    "overall": ("Overall", "All"),
}


def encoder_name(encoder: str) -> str:
    """An encoder, `blind` or `none` as the paper prints it; one of the encoder table with its size.

    >>> encoder_name("siglip_so400m"), encoder_name("dinov2_g"), encoder_name("mine_l")
    ('SigLIP-SO400M', 'DINOv2-g', 'mine_l')
    """
    if (match := _SIZE.fullmatch(encoder)) and match[1] in _ENCODERS:
        size = match[2] if match[2] == "g" else match[2].upper()  # ViT-g is smaller than ViT-G
        return f"{_ENCODERS[match[1]]}-{size}"
    return _ENCODERS.get(encoder, encoder)


def subset_name(subset: str) -> str:
    """`clip+dinov2` as `CLIP + DINOv2`."""
    return " + ".join(encoder_name(part) for part in subset.split("+"))


def benchmark_name(benchmark: str) -> str:
    """A benchmark, a group or `overall` as the paper prints it."""
    return _BENCHMARKS.get(benchmark, (benchmark, benchmark))[0]


def short_benchmark_name(benchmark: str) -> str:
    """A benchmark's name for the head of a narrow column."""
    return _BENCHMARKS.get(benchmark, (benchmark, benchmark))[1]


def group_order(groups: Iterable[str]) -> list[str]:
    """The groups that occur: those of the study in its order, then others; `overall` is none."""
    present = [group for group in dict.fromkeys(groups) if isinstance(group, str) and group != "overall"]
    return sorted(present, key=lambda group: list(GROUPS).index(group) if group in GROUPS else len(GROUPS))
