"""The Transformer against torch's own with copied weights, its cache of keys and values, and causality."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from headrace.models.attention import Attention, rotate
from headrace.models.transformer import Transformer, sinusoids

WIDTH, HEADS, LAYERS = 16, 4, 2
POSITIONS = ("learned", "sinusoidal", "rotary")


def build(seed: int = 0, **settings: object) -> Transformer:
    torch.manual_seed(seed)
    network = Transformer(WIDTH, LAYERS, HEADS, 12, **settings)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def copy_attention(ours: Attention, theirs: nn.MultiheadAttention) -> None:
    theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
    theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())


def copy_stack(ours: Transformer, theirs: nn.Module) -> None:
    """Copy the weights of our layers to torch's. The caller leaves out what ours adds for positions."""
    for block, layer in zip(ours.blocks, theirs.layers, strict=True):  # type: ignore[arg-type]
        copy_attention(block.attend_self, layer.self_attn)
        layer.norm1.load_state_dict(block.norm_self.state_dict())
        last = layer.norm2
        if block.attend_cross is not None:
            copy_attention(block.attend_cross, layer.multihead_attn)
            layer.norm2.load_state_dict(block.norm_cross.state_dict())
            last = layer.norm3
        last.load_state_dict(block.norm_feed_forward.state_dict())
        layer.linear1.load_state_dict(block.feed_forward[0].state_dict())
        layer.linear2.load_state_dict(block.feed_forward[2].state_dict())
    theirs.norm.load_state_dict(ours.norm.state_dict())  # type: ignore[union-attr,operator]


@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_encoder_and_decoder_are_those_of_torch(norm: str) -> None:
    encoder = build(1, positions="sinusoidal", norm=norm)
    decoder = build(2, positions="sinusoidal", norm=norm, causal=True, context_width=WIDTH)
    peer = nn.Transformer(
        WIDTH,
        HEADS,
        LAYERS,
        LAYERS,
        4 * WIDTH,
        dropout=0.0,
        activation="gelu",
        batch_first=True,
        norm_first=norm == "pre",
    ).eval()
    copy_stack(encoder, peer.encoder)
    copy_stack(decoder, peer.decoder)
    generator = torch.Generator().manual_seed(3)
    source, target = torch.randn(3, 7, WIDTH, generator=generator), torch.randn(3, 5, WIDTH, generator=generator)
    real_NM = torch.arange(7) < torch.tensor([[7], [4], [1]])
    positions = sinusoids(12, WIDTH)
    expected = peer(
        source + positions[:7],
        target + positions[:5],
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(5),
        tgt_is_causal=True,
        src_key_padding_mask=~real_NM,
        memory_key_padding_mask=~real_NM,
    )
    found = decoder(target, context_NMD=encoder(source, real_NM), context_mask_NM=real_NM)
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("positions", "norm", "cross", "first"),
    [*itertools.product(POSITIONS, ("pre",), (False, True), (1, 4)), ("rotary", "post", True, 3)],
)
@torch.no_grad()
def test_with_memory_the_outputs_are_the_same(positions: str, norm: str, cross: bool, first: int) -> None:
    network = build(causal=True, positions=positions, norm=norm, context_width=WIDTH if cross else None)
    generator = torch.Generator().manual_seed(1)
    x_NLC, context = torch.randn(2, 9, WIDTH, generator=generator), torch.randn(2, 3, WIDTH, generator=generator)
    conditioning = {"context_NMD": context, "context_mask_NM": torch.tensor([[True, True, False]] * 2)} if cross else {}
    whole = network(x_NLC, **conditioning)
    past = network.past()
    parts = [network(x_NLC[:, :first], past=past, **conditioning)]
    parts.append(network(x_NLC[:, first : first + 2], past=past, **conditioning))
    parts += [network(x_NLC[:, place : place + 1], past=past, **conditioning) for place in range(first + 2, 9)]
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-5
    assert past.length == 9


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_future_leaks_nothing(positions: str, precision: torch.dtype) -> None:
    network = build(causal=True, positions=positions)
    x_NLC = torch.randn(1, 8, WIDTH, requires_grad=True)
    for place in range(8):
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            # The final normalisation makes the plain sum of channels constant.
            out = network(x_NLC)[0, place].float()
        (gradient,) = torch.autograd.grad((out * torch.arange(WIDTH)).sum(), x_NLC)
        reach_L = gradient[0].abs().amax(1)
        assert (reach_L[place + 1 :] == 0).all()
        assert (reach_L[: place + 1] > 0).all()


def test_without_causality_every_position_is_seen_but_padding() -> None:
    network = build()
    x_NLC = torch.randn(1, 6, WIDTH, requires_grad=True)
    out = network(x_NLC, torch.tensor([[True, True, True, True, False, True]]))[0, 0]
    (gradient,) = torch.autograd.grad((out * torch.arange(WIDTH)).sum(), x_NLC)
    assert (gradient[0].abs().amax(1) > 0).tolist() == [True, True, True, True, False, True]


def test_rotary_products_depend_on_the_distance_alone() -> None:
    q, k = torch.randn(2, 1, 1, 1, 8).double()
    near = (rotate(q, 7) * rotate(k, 4)).sum()
    far = (rotate(q, 103) * rotate(k, 100)).sum()
    torch.testing.assert_close(near, far, rtol=1e-4, atol=1e-5)
    assert not torch.isclose(near, (rotate(q, 7) * rotate(k, 5)).sum(), rtol=1e-3)


def test_sinusoids_are_those_of_the_paper() -> None:
    found = sinusoids(5, 6)
    assert found[3, 2] == pytest.approx(torch.tensor(3 / 10_000 ** (2 / 6)).sin().item())
    assert found[3, 5] == pytest.approx(torch.tensor(3 / 10_000 ** (4 / 6)).cos().item())
    assert sinusoids(5, 7).shape == (5, 7)


@pytest.mark.parametrize("positions", POSITIONS)
def test_order_matters(positions: str) -> None:
    network = build(positions=positions)
    x_NLC = torch.randn(1, 6, WIDTH)
    moved = network(x_NLC.flip(1)).flip(1)
    assert not torch.allclose(moved, network(x_NLC), atol=1e-3)


def test_too_many_positions_are_refused() -> None:
    network = build(causal=True)
    with pytest.raises(ValueError, match="positions: found 13, expected at most 12"):
        network(torch.zeros(1, 13, WIDTH))
    past = network.past(4)
    network(torch.zeros(1, 4, WIDTH), past=past)
    with pytest.raises(ValueError, match="positions: found 5, expected at most 4"):
        network(torch.zeros(1, 1, WIDTH), past=past)


def test_every_parameter_matters() -> None:
    network = build(causal=True, context_width=WIDTH)
    out: Tensor = network(torch.randn(2, 12, WIDTH), context_NMD=torch.randn(2, 3, WIDTH))
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
