"""DINOv2: self-distillation without labels (Oquab et al. 2024), in transformers' Dinov2Model.

A student sees the picture with half of its patches masked, a teacher (the student's moving average) sees all
of it. The student predicts the teacher's prototypes of the hidden patches (iBOT) and of the whole picture
(DINO), and the hidden patches' features; a variance term keeps features from collapsing.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize, pad, smooth_l1_loss, softmax

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers
from transformers import Dinov2Config, Dinov2Model

from encoder_roles.world.pretraining.loop import Recipe
from encoder_roles.world.pretraining.pictures import Album

RECIPE = Recipe(
    pixels=64,
    steps=1400,
    batch=64,
    mix={"objects": 0.55, "pair": 0.25, "chart": 0.1, "sign": 0.05, "digit": 0.05},
)
WIDTH = 64
PATCH = 16
SHIFT = 3
TOKENS = (RECIPE.pixels // PATCH) ** 2
PROTOTYPES = 256
STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05
SLOWEST, FASTEST = 0.995, 0.95  # the teacher's momentum at the end and at the start


class Head(nn.Module):
    """An MLP to prototypes on the unit sphere."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.prototypes = nn.Linear(WIDTH, PROTOTYPES, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(..., WIDTH) -> (..., PROTOTYPES)."""
        directions: Tensor = normalize(self.mlp(features), dim=-1)
        return directions @ normalize(self.prototypes.weight, dim=-1).T


class Dinov2(nn.Module):
    """Student, teacher and their heads."""

    def __init__(self) -> None:
        super().__init__()
        self.vision = Dinov2Model(
            Dinov2Config(
                hidden_size=WIDTH,
                num_hidden_layers=3,
                num_attention_heads=4,
                mlp_ratio=4,
                image_size=RECIPE.pixels,
                patch_size=PATCH,
                layerscale_value=1.0,
            )
        )
        self.picture_head, self.patch_head = Head(), Head()
        self.predict = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.teacher = copy.deepcopy(nn.ModuleList([self.vision, self.picture_head, self.patch_head]))
        self.teacher.requires_grad_(False)

    def prepare(self, album: Album) -> None:
        """Nothing: there are no labels."""

    def loss(self, album: Album, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """iBOT and DINO cross-entropies, masked-feature L1 and the variance term."""
        pixels = album.pixels(chosen)
        other = jitter(pixels, generator)
        pixels = jitter(pixels, generator)
        hidden = torch.rand(len(chosen), TOKENS, generator=generator).argsort(1) < TOKENS // 2
        seen = self.vision(pixel_values=pixels, bool_masked_pos=hidden).last_hidden_state
        with torch.no_grad():
            vision, picture_head, patch_head = self.teacher.children()
            whole = vision(pixel_values=other).last_hidden_state
            picture_target = sinkhorn(picture_head(whole[:, 0]))
            patch_target = sinkhorn(patch_head(whole[:, 1:][hidden]))
        patches = seen[:, 1:][hidden]
        picture = _distance(self.picture_head(seen[:, 0]), picture_target)
        patch = _distance(self.patch_head(patches), patch_target)
        feature = smooth_l1_loss(self.predict(patches), whole[:, 1:][hidden])
        spread = (1 - seen[:, 1:].flatten(0, 1).std(0)).clamp(min=0).mean()
        total: Tensor = picture + patch + feature + spread
        return total

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Move the teacher towards the student."""
        memory = FASTEST + (SLOWEST - FASTEST) * progress
        student = nn.ModuleList([self.vision, self.picture_head, self.patch_head])
        for old, new in zip(self.teacher.parameters(), student.parameters(), strict=True):
            old.lerp_(new, 1 - memory)

    def save(self, folder: Path) -> None:
        """config.json and model.safetensors of the teacher, as DINOv2's released weights are."""
        vision = next(self.teacher.children())
        vision.save_pretrained(folder)  # type: ignore[operator]  # a Dinov2Model, which mypy takes for any Module


def jitter(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Another view: shifted by up to SHIFT pixels, contrast and channel gains changed by up to a fifth."""
    count, _, height, width = pixels.shape
    padded = pad(pixels, (SHIFT,) * 4, mode="replicate")
    shift = torch.randint(0, 2 * SHIFT + 1, (2, count, 1), generator=generator)
    rows, columns = shift[0] + torch.arange(height), shift[1] + torch.arange(width)
    view = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(
        0, 3, 1, 2
    )
    gain = 1 + 0.4 * (torch.rand(count, 3, 1, 1, generator=generator) - 0.5)
    offset = 0.4 * (torch.rand(count, 1, 1, 1, generator=generator) - 0.5)
    return view * gain + offset


def sinkhorn(scores: Tensor, rounds: int = 3) -> Tensor:
    """Assignments (rows, PROTOTYPES), rows sum to 1, prototypes used evenly (SwAV; DINOv2 uses the same)."""
    shares: Tensor = softmax(scores.flatten() / TEACHER_TEMPERATURE, 0).reshape(scores.shape)
    for _ in range(rounds):
        shares = shares / shares.sum(0, keepdim=True).clamp(min=1e-12)
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-12)
    return shares


def _distance(scores: Tensor, target: Tensor) -> Tensor:
    return -(target * log_softmax(scores / STUDENT_TEMPERATURE, -1)).sum(-1).mean()
