"""Every connector against its paper's definition, and what a removed encoder is in each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from encoder_roles.models.connector import Connector, projector_inputs
from encoder_roles.models.connectors.factory import KINDS, build_connector
from encoder_roles.models.masking import mask_features
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import CONNECTORS, ConnectorSettings

LEVELS = {"sam": (5,), "clip": (6, 4), "dinov2": (4,)}  # pool order is not the order of the names
POOL = tuple(LEVELS)
HIDDEN, GRID, PICTURES = 12, 4, 3
SIZES: dict[str, dict[str, Any]] = {
    "linear": {},
    "mlp": {"layers": 2},
    "token_concat": {"layers": 2},
    "token_interleave": {"layers": 2},
    "multi_level": {"layers": 2, "width": 8},
    "resampler": {"layers": 1, "width": 8, "heads": 2, "depth": 2, "queries": 5},
    "sva": {"layers": 2, "width": 8, "heads": 2, "depth": 2, "query_grid": 2, "groups": 2},
    "vit": {"layers": 1, "width": 8, "heads": 2, "depth": 2},
}
BY_NAME = [kind for kind in SIZES if kind not in ("linear", "mlp")]
ZERO_IS_DROP = {"linear", "mlp", "vit"}
TOKENS = {"token_concat": 3 * GRID**2, "token_interleave": 3 * GRID**2, "resampler": 5, "sva": 4}


def settings(kind: str, **changes: Any) -> ConnectorSettings:
    return ConnectorSettings.model_validate({"kind": kind, "grid": GRID} | SIZES[kind] | changes)


def build(kind: str, names: tuple[str, ...] = POOL, seed: int = 0, **changes: Any) -> Connector:
    connector = build_connector(
        {e: LEVELS[e] for e in names}, settings(kind, **changes), HIDDEN, seed
    ).double()
    with torch.no_grad():  # as trained: no norm is the identity, no weight of a sum is equal to another
        for name, weight in connector.named_parameters():
            generator = torch.Generator().manual_seed(len(name) + sum(map(ord, name)))
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator, dtype=torch.float64))
    return connector.eval()


def inputs(names: tuple[str, ...] = POOL, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (PICTURES, GRID, GRID)
    blocks = {e: torch.randn(*shape, sum(w), generator=generator).double() for e, w in sorted(LEVELS.items())}
    return projector_inputs({e: blocks[e] for e in names}, LEVELS)


def norm(x: Tensor, layer: nn.Module) -> Tensor:
    """LayerNorm as its paper writes it."""
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, correction=0)
    return (x - mean) / (variance + 1e-5).sqrt() * layer.weight + layer.bias


def linear(x: Tensor, layer: nn.Module) -> Tensor:
    return x @ layer.weight.T + (0 if layer.bias is None else layer.bias)


def mlp(x: Tensor, layers: Any) -> Tensor:
    for number, layer in enumerate(part for part in layers if isinstance(part, nn.Linear)):
        x = linear(nn.functional.gelu(x) if number else x, layer)
    return x


def attention(query: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """One query (C,) on keys and values (S, C), head by head."""
    size = len(query) // heads
    read = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        weights = torch.softmax(keys[:, part] @ query[part] / size**0.5, dim=0)
        read.append(weights @ values[:, part])
    return torch.cat(read)


def test_every_kind_of_the_config_has_a_class_and_is_tested_here() -> None:
    assert set(KINDS) == set(CONNECTORS) == set(SIZES)


@pytest.mark.parametrize("kind", SIZES)
def test_a_connector_gives_the_tokens_it_says(kind: str) -> None:
    connector = build(kind)
    assert connector.tokens == TOKENS.get(kind, GRID**2)
    assert connector(inputs()).shape == (PICTURES, connector.tokens, HIDDEN)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_channel_concatenation_is_an_mlp_of_the_channels_at_each_place(layers: int) -> None:
    connector, x = build("mlp", layers=layers), inputs()
    assert sum(isinstance(part, nn.Linear) for part in connector.layers) == layers
    for picture, row, column in ((0, 0, 0), (1, 2, 3), (2, 3, 1)):
        place = torch.cat([x[e][picture, row, column] for e in POOL])
        result = connector(x)[picture, GRID * row + column]
        assert torch.allclose(result, mlp(place, connector.layers), atol=1e-12)


def test_token_concatenation_is_each_encoders_own_projector_one_after_another() -> None:
    connector, x = build("token_concat"), inputs()
    result = connector(x)
    for block, encoder in enumerate(("clip", "dinov2", "sam")):
        for place in range(GRID**2):
            expected = mlp(x[encoder][:, place // GRID, place % GRID], connector.projectors[encoder])
            assert torch.allclose(result[:, block * GRID**2 + place], expected, atol=1e-12)


def test_interleaving_puts_the_tokens_of_one_place_next_to_each_other() -> None:
    connector, x = build("token_interleave"), inputs()
    result = connector(x)
    for place in range(GRID**2):
        for number, encoder in enumerate(("clip", "dinov2", "sam")):
            expected = mlp(x[encoder][:, place // GRID, place % GRID], connector.projectors[encoder])
            assert torch.allclose(result[:, 3 * place + number], expected, atol=1e-12)


def test_levels_are_merged_as_comm_defines_it() -> None:
    connector, x = build("multi_level"), inputs()
    merged = {}
    for encoder, widths in LEVELS.items():
        start, total = 0, torch.zeros(())
        for level, width in enumerate(widths):
            layer, scale = connector.aligned[encoder][level]
            part = x[encoder][..., start : start + width]
            logits = connector.weights[encoder] if len(widths) > 1 else torch.zeros(1)
            weight = logits[level].exp() / logits.exp().sum()
            total = total + weight * norm(linear(part, layer), scale)
            start += width
        merged[encoder] = total
    first = torch.cat([connector.first.weights[e].weight for e in merged], dim=1)
    states = torch.cat(list(merged.values()), dim=-1) @ first.T + connector.first.bias
    expected = linear(nn.functional.gelu(states), connector.rest[0]).flatten(1, 2)
    assert torch.allclose(connector(x), expected, atol=1e-12)
    fresh = build_connector(LEVELS, settings("multi_level"), HIDDEN, seed=0)
    assert set(fresh.weights) == {"clip"}  # one level needs no weight
    assert fresh.weights["clip"].tolist() == [0, 0]  # levels count the same at first


def test_a_resampler_reads_all_tokens_of_all_encoders_in_one_softmax() -> None:
    connector, x = build("resampler"), inputs()
    for picture in range(PICTURES):
        states = connector.queries
        for block in connector.blocks:
            q, k, v = linear(norm(states, block.norms[0]), block.own.inputs).split(8, dim=-1)
            own = torch.stack([attention(query, k, v, 2) for query in q])
            states = states + linear(own, block.own.output)
            keys, values = [], []
            for encoder in LEVELS:
                tokens = x[encoder][picture].reshape(GRID**2, -1)
                keys.append(linear(tokens, block.read.key[encoder]) + connector.places)
                values.append(linear(tokens, block.read.value[encoder]))
            q = linear(norm(states, block.norms[1]), block.read.query)
            read = torch.stack([attention(query, torch.cat(keys), torch.cat(values), 2) for query in q])
            states = states + linear(read, block.read.output)
            states = states + mlp(norm(states, block.norms[2]), block.feed)
        expected = mlp(norm(states, connector.norm), connector.layers)
        assert torch.allclose(connector(x)[picture], expected, atol=1e-10)


def test_the_spatial_aggregator_is_cambrians_but_for_the_context() -> None:
    """Window by window and head by head, as cambrian/model/vision_sampler.py has it."""
    connector, x = build("sva"), inputs()
    side, window = 2, GRID // 2
    aligned = {e: norm(mlp(x[e], connector.aligned[e]), connector.aligned[e][-1]) for e in LEVELS}
    for picture, row, column in ((0, 0, 1), (2, 1, 0)):
        context = torch.stack([aligned[e][picture].mean((0, 1)) for e in LEVELS]).mean(0)
        groups = []
        for query, blocks in zip(connector.queries, connector.groups, strict=True):
            state = query
            for block in blocks:
                inner = linear(torch.cat([state, linear(context, block.context)]), block.enter)
                keys, values = [], []
                for encoder in LEVELS:
                    rows = slice(row * window, (row + 1) * window)
                    columns = slice(column * window, (column + 1) * window)
                    tokens = aligned[encoder][picture, rows, columns].reshape(window**2, -1)
                    tokens = tokens + block.places[encoder]
                    keys.append(linear(norm(tokens, block.key[encoder][0]), block.key[encoder][1]))
                    values.append(linear(norm(tokens, block.value[encoder][0]), block.value[encoder][1]))
                requests = linear(norm(inner, block.query[0]), block.query[1])
                read = attention(requests, torch.cat(keys), torch.cat(values), 2)
                state = state + mlp(norm(inner + linear(read, block.output), block.norm), block.leave)
            groups.append(state)
        expected = mlp(torch.cat(groups), connector.layers)
        assert torch.allclose(connector(x)[picture, side * row + column], expected, atol=1e-10)


def test_the_spatial_aggregators_linear_layers_have_biases_where_cambrians_have() -> None:
    connector = build("sva")
    without = {n for n, part in connector.groups.named_modules() if isinstance(part, nn.Linear)}
    assert without and all(connector.groups.get_submodule(name).bias is None for name in without)
    assert all(part.bias is not None for part in connector.modules() if isinstance(part, nn.LayerNorm))
    assert connector.queries.shape == (2, 8)  # one vector a group, not one a place


def test_a_window_of_one_token_has_no_position() -> None:
    assert not [name for name, _ in build("sva", query_grid=GRID).named_parameters() if "places" in name]


def test_a_query_of_the_spatial_aggregator_reads_its_own_window_only() -> None:
    """But for the context, which is held still by a change that leaves every mean as it was."""
    connector, x = build("sva"), inputs()
    connector.aligned = nn.ModuleDict({e: nn.Linear(sum(w), 8).double() for e, w in LEVELS.items()})
    changed = {e: block.clone() for e, block in x.items()}
    for block in changed.values():
        block[:, 0, 2] += 1.0  # within the window of the query at row 0, column 1
        block[:, 1, 3] -= 1.0
    moved = (connector(changed) - connector(x)).abs().amax((0, 2)) > 1e-9
    assert moved.tolist() == [False, True, False, False]
    for block in changed.values():
        block[:, 1, 3] += 2.0
    assert ((connector(changed) - connector(x)).abs().amax((0, 2)) > 1e-9).all()  # by the context


def test_the_small_vit_is_torchs_own_transformer_on_embedded_places() -> None:
    connector, x = build("vit"), inputs()
    weight = torch.cat([connector.embedding.weights[e].weight for e in POOL], dim=1)
    states = torch.cat([x[e] for e in POOL], dim=-1).flatten(1, 2) @ weight.T
    states = states + connector.embedding.bias + connector.places
    for block in connector.blocks:
        layer = nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True).double()
        own, feed, norms = block.own, block.feed, block.norms
        names = {"self_attn.in_proj_": own.inputs, "self_attn.out_proj.": own.output, "linear1.": feed[0]}
        names |= {"linear2.": feed[2], "norm1.": norms[0], "norm2.": norms[1]}
        layer.load_state_dict({n + k: v for n, part in names.items() for k, v in part.state_dict().items()})
        states = layer.eval()(states)
    expected = mlp(norm(states, connector.norm), connector.layers)
    assert torch.allclose(connector(x), expected, atol=1e-10)


@pytest.mark.parametrize("kind", BY_NAME)
def test_the_order_of_the_pool_changes_no_weight_and_no_output(kind: str) -> None:
    order = ("dinov2", "sam", "clip")
    one, other = build(kind), build(kind, order)
    weights = other.state_dict()
    assert set(weights) == set(one.state_dict())
    assert all(torch.equal(weight, weights[name]) for name, weight in one.state_dict().items())
    assert torch.equal(one(inputs()), other(inputs(order)))
    for kept in (frozenset({"sam"}), frozenset({"clip", "dinov2"})):
        for operator in ("zero", "drop"):
            masked = [c(mask_features(inputs(n), kept, operator)) for c, n in ((one, POOL), (other, order))]
            assert torch.equal(*masked)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_the_order_of_the_pool_permutes_the_columns_of_channel_concatenation(kind: str) -> None:
    order = ("dinov2", "sam", "clip")
    one, other = build(kind), build(kind, order)
    widths = [sum(LEVELS[e]) for e in POOL]
    columns = dict(zip(POOL, one.layers[0].weight.split(widths, dim=1), strict=True))
    permuted = one.state_dict() | {"layers.0.weight": torch.cat([columns[e] for e in order], dim=1)}
    other.load_state_dict(permuted)
    assert torch.allclose(one(inputs()), other(inputs(order)), atol=1e-12)


@pytest.mark.parametrize("kind", BY_NAME)
@pytest.mark.parametrize("dropped", POOL)
def test_dropping_an_encoder_is_the_connector_built_without_it(kind: str, dropped: str) -> None:
    left = tuple(e for e in POOL if e != dropped)
    smaller = build(kind, left)
    result = build(kind)(mask_features(inputs(), frozenset(left), "drop"))
    assert torch.allclose(result, smaller(inputs(left)), atol=1e-12)
    assert result.shape[1] == smaller.tokens


@pytest.mark.parametrize("dropped", POOL)
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_dropping_an_encoder_deletes_its_columns_of_channel_concatenation(kind: str, dropped: str) -> None:
    left = tuple(e for e in POOL if e != dropped)
    full, smaller = build(kind), build(kind, left)
    columns = dict(zip(POOL, full.layers[0].weight.split([sum(LEVELS[e]) for e in POOL], dim=1), strict=True))
    smaller.load_state_dict(full.state_dict() | {"layers.0.weight": torch.cat([columns[e] for e in left], 1)})
    result = full(mask_features(inputs(), frozenset(left), "drop"))
    assert torch.allclose(result, smaller(inputs(left)), atol=1e-12)


@pytest.mark.parametrize("kind", SIZES)
def test_zeros_are_removal_where_encoders_enter_by_columns_and_nowhere_else(kind: str) -> None:
    connector, x = build(kind), inputs()
    kept = frozenset({"clip", "sam"})
    zeroed, dropped = (connector(mask_features(x, kept, operator)) for operator in ("zero", "drop"))
    same = zeroed.shape == dropped.shape and torch.allclose(zeroed, dropped, atol=1e-12)
    assert same == (kind in ZERO_IS_DROP)
    assert not torch.allclose(zeroed, connector(x), atol=1e-3)


@pytest.mark.parametrize("kind", SIZES)
def test_with_every_encoder_dropped_nothing_is_known_of_the_picture(kind: str) -> None:
    connector = build(kind)
    result = connector({}, PICTURES)
    deleted = kind in ("token_concat", "token_interleave")
    assert result.shape == (PICTURES, 0 if deleted else connector.tokens, HIDDEN)
    assert torch.isfinite(result).all()
    with pytest.raises(StudyError, match="number of pictures"):
        connector({})


@pytest.mark.parametrize("kind", SIZES)
def test_an_encoder_that_the_connector_does_not_read_is_refused(kind: str) -> None:
    with pytest.raises(StudyError, match="siglip"):
        build(kind)(inputs() | {"siglip": torch.zeros(PICTURES, GRID, GRID, 3)})


@pytest.mark.parametrize("kind", SIZES)
def test_the_seed_decides_and_gradients_reach_every_weight(kind: str) -> None:
    one, again, other = (build_connector(LEVELS, settings(kind), HIDDEN, seed) for seed in (3, 3, 4))
    torch.manual_seed(0)
    drawn = {n for n, w in one.named_parameters() if w.dim() > 1}
    for name, weight in one.named_parameters():
        assert torch.equal(weight, again.get_parameter(name)), name
        if name in drawn:
            assert not torch.equal(weight, other.get_parameter(name)), name
    one({e: block.float() for e, block in inputs().items()}).square().sum().backward()
    for name, weight in one.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0 or name.endswith("key.bias") or "inputs.bias" in name, name


def test_the_initial_weights_of_an_encoder_are_the_same_in_every_subset() -> None:
    for kind in BY_NAME:
        one = build_connector(LEVELS, settings(kind), HIDDEN, seed=0).state_dict()
        alone = build_connector({"clip": LEVELS["clip"]}, settings(kind), HIDDEN, seed=0).state_dict()
        own = [name for name in alone if ".clip." in name or name.endswith(".clip")]
        assert own
        assert all(torch.equal(alone[name], one[name]) for name in own)


def test_encoders_of_one_width_start_from_different_weights() -> None:
    connector = build_connector({"clip": (6,), "sam": (6,)}, settings("token_concat"), HIDDEN, seed=0)
    weights = [projector[0].weight for projector in connector.projectors.values()]
    assert not torch.equal(*weights)


def test_new_layers_are_as_wide_in_their_weights_as_torchs_own() -> None:
    connector = build_connector({"clip": (400,)}, settings("token_concat", layers=1), 300, seed=0)
    layer = connector.projectors["clip"][0]
    bound = 400**-0.5
    assert bound * 0.99 < float(layer.weight.detach().abs().max()) <= bound
    assert float(layer.weight.detach().mean().abs()) < bound / 50


def test_levels_are_normalised_each_by_itself() -> None:
    loud = torch.randn(2, GRID, GRID, 10)
    loud[..., 6:] *= 1000
    parts = projector_inputs({"clip": loud}, LEVELS)["clip"].split([6, 4], dim=-1)
    for part in parts:
        assert torch.allclose(part.square().mean(-1), torch.ones(part.shape[:-1]), atol=1e-3)


def test_heads_that_do_not_divide_the_language_models_width_are_refused() -> None:
    with pytest.raises(StudyError, match=r"connector\.heads: 5 do not divide the width of 12"):
        build("vit", heads=5, width=None)
