"""Masks on the modules of any model: what is replaced, by what, and what cannot be."""

from __future__ import annotations

import contextlib
from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from encoder_roles.models.masking import calibrate
from encoder_roles.models.module_masks import Calibrator, ModuleMask, find_module, hooked, map_features
from encoder_roles.study.names import StudyError

Pair = namedtuple("Pair", "first second")
PATHS = {"clip": "towers.0", "sam": "towers.1"}


@dataclass
class Levels:
    low: Tensor
    high: Tensor


def model_output(x: Tensor) -> Any:
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    return BaseModelOutputWithPooling(last_hidden_state=x, pooler_output=x[:, 0], hidden_states=(x, 2 * x))


FORMS = {
    "tensor": lambda x: x,
    "tuple": lambda x: (x, 2 * x, None),
    "list": lambda x: list(x),
    "named tuple": lambda x: Pair(x, {"inner": 2 * x}),
    "data class": lambda x: Levels(x, 2 * x),
    "ModelOutput": model_output,
}


class Tower(nn.Module):
    """Pixels (B, 3, 2, 2) -> tokens (B, 4, 5), in some form."""

    def __init__(self, seed: int, form: str = "tensor") -> None:
        super().__init__()
        self.form = form
        self.weight = nn.Parameter(torch.randn(3, 5, generator=torch.Generator().manual_seed(seed)))

    def forward(self, pixels: Tensor) -> Any:
        return FORMS[self.form](pixels.flatten(2).transpose(1, 2) @ self.weight + 1)


class Model(nn.Module):
    """Two towers; what they returned last is kept, to be looked at."""

    def __init__(self, form: str = "tensor") -> None:
        super().__init__()
        self.towers = [Tower(0, form), Tower(1, form)]  # a plain list, as some models have it
        self.inner = nn.Sequential(nn.Identity())

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> list[Any]:
        return [tower(pixels) for tower in self.towers]


def pixels(pictures: int, seed: int) -> Tensor:
    return torch.randn(pictures, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


def tensors_in(output: Any) -> list[Tensor]:
    seen: list[Tensor] = []
    map_features(output, lambda place, block: (seen.append(block), block)[1])
    return seen


@pytest.mark.parametrize("form", FORMS)
def test_zero_empties_every_tensor_of_the_removed_encoder_in_any_form_of_output(form: str) -> None:
    model, shown = Model(form), pixels(3, 0)
    kept, removed = model(shown)
    with hooked(model, PATHS, ModuleMask(frozenset({"sam"}), "zero")) as calls:
        masked = model(shown)
    assert calls == {"clip": 1, "sam": 1}
    assert type(masked[1]) is type(removed)
    assert [b.shape for b in tensors_in(masked[1])] == [b.shape for b in tensors_in(removed)]
    assert all((block == 0).all() for block in tensors_in(masked[1]))
    for now, before in zip(tensors_in(masked[0]), tensors_in(kept), strict=True):
        assert torch.equal(now, before)
    after = model(shown)  # the hooks are gone, and the outputs were not changed in place
    assert all(torch.equal(*pair) for pair in zip(tensors_in(after[1]), tensors_in(removed), strict=True))


@pytest.mark.parametrize("form", ["tensor", "list", "ModelOutput"])
def test_mean_is_each_channels_mean_over_all_tokens_of_the_calibration_pictures(form: str) -> None:
    model, batches = Model(form), [pixels(4, 1), pixels(2, 2)]
    reader = Calibrator({}, keep_donors=False)
    with hooked(model, PATHS, reader):
        for batch in batches:
            model(batch)
    expected = calibrate([{"sam": Model()(batch)[1]} for batch in batches])["sam"].mean
    with hooked(model, PATHS, ModuleMask(frozenset({"sam"}), "mean", reader.calibrations)):
        masked = model(pixels(3, 3))[1]
    tokens = {"tensor": lambda: masked, "list": lambda: torch.stack(masked)}
    shown = tokens.get(form, lambda: masked.last_hidden_state)()
    assert shown.shape == (3, 4, 5)
    assert torch.allclose(shown, expected.expand(3, 4, 5))
    if form == "ModelOutput":
        assert torch.allclose(masked.hidden_states[1], 2 * expected.expand(3, 4, 5))


@pytest.mark.parametrize("form", ["tensor", "list"])
def test_shuffle_shows_every_removed_encoder_the_same_other_picture(form: str) -> None:
    model, donors = Model(form), pixels(6, 1)
    reader = Calibrator({}, keep_donors=True)
    with hooked(model, PATHS, reader):
        for picture in donors:
            model(picture[None])
    mask = ModuleMask(frozenset(PATHS), "shuffle", reader.calibrations, seed=3)
    with hooked(model, PATHS, mask):
        masked = [model(pixels(4, seed)) for seed in (2, 3)]
    banks = [torch.stack(list(of)) for of in Model()(donors)]
    chosen = []
    for answers in masked:
        for rows, bank in zip(answers, banks, strict=True):
            near = [[torch.allclose(row, donor) for donor in bank].index(True) for row in rows]
            chosen.append(near)
    assert chosen[0] == chosen[1] and chosen[2] == chosen[3]
    assert len(set(chosen[0] + chosen[2])) > 2


def test_channels_may_stand_on_another_axis() -> None:
    class Maps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.arange(1.0, 4.0).view(3, 1, 1)

    model = nn.ModuleList([Maps()])
    reader = Calibrator({"conv": 1}, keep_donors=False)
    with hooked(model, {"conv": "0"}, reader):
        shown = model[0](pixels(5, 0))
    mask = ModuleMask(frozenset({"conv"}), "mean", reader.calibrations, {"conv": 1})
    with hooked(model, {"conv": "0"}, mask):
        masked = model[0](pixels(2, 1))
    assert torch.allclose(masked, shown.mean((0, 2, 3)).view(1, 3, 1, 1).expand(2, 3, 2, 2), atol=1e-6)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tower.0", r"module tower.0: the model has no 'tower' \(it has inner\); correct the path"),
        ("towers.2", "module towers.2: towers has no '2'; correct the path"),
        ("inner.0.weight", "module inner.0.weight: inner.0 has no 'weight'; correct the path"),
        ("towers", "module towers: is a list, not a torch module; correct the path"),
    ],
)
def test_a_path_without_a_module_is_one_line_that_says_where_it_ends(path: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        find_module(Model(), path)


@pytest.mark.parametrize("output", [None, torch.arange(6).view(2, 3), {"loss": torch.tensor(1.0)}, "text"])
def test_an_output_without_features_is_one_line_even_if_the_model_swallows_errors(output: Any) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return output

    model = nn.ModuleList([Odd()])
    message = r"encoder odd: module 0: returned a .* without a tensor of features"
    with (
        pytest.raises(StudyError, match=message),
        hooked(model, {"odd": "0"}, ModuleMask(frozenset(), "zero")),
        contextlib.suppress(StudyError),  # as models do that log an error and go on
    ):
        model[0](pixels(1, 0))


def test_a_module_that_is_never_called_is_one_line() -> None:
    model = Model()
    mask = ModuleMask(frozenset({"sam"}), "zero")
    with (
        pytest.raises(StudyError, match=r"encoder idle: module inner\.0: was never called for a picture"),
        hooked(model, PATHS | {"idle": "inner.0"}, mask),
    ):
        model(pixels(1, 0))


def test_operators_that_need_calibration_say_so() -> None:
    with pytest.raises(StudyError, match="operator 'mean' needs calibration pictures"):
        ModuleMask(frozenset({"sam"}), "mean")


def test_shuffle_needs_outputs_of_one_shape() -> None:
    model, reader = Model(), Calibrator({}, keep_donors=True)
    with (
        pytest.raises(StudyError, match="other shapes for other pictures, and shuffle needs one shape"),
        hooked(model, PATHS, reader),
    ):
        for width in (2, 3):
            model(torch.ones(1, 3, 2, width))
