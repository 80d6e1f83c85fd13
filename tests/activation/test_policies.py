"""Activation checkpointing: the same gradients bit for bit, less memory, on any module with blocks."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from torch import Tensor, nn
from torch._functorch.partitioners import get_default_op_list
from torch.utils.checkpoint import checkpoint

from headrace import activation
from headrace.activation import Plan, Segment, blocks_of
from headrace.activation.chain import Chain, attach
from headrace.activation.meter import peak_bytes
from headrace.activation.plan import segments_of, square_root
from headrace.activation.selective import KEPT
from headrace.errors import RecipeError
from headrace.models import Caption, build
from headrace.recipe.model import UNet
from headrace.recipe.text import Text

POLICIES = ("full", "every_k", "sqrt", "selective")


class Block(nn.Module):
    """A residual block with dropout, and an embedding beside the chain."""

    def __init__(self, width: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU())
        self.out = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_NC: Tensor, *, shift_NC: Tensor) -> Tensor:
        return x_NC + self.dropout(self.out(self.layers(x_NC + shift_NC)))


class Stack(nn.Module):
    def __init__(self, depth: int, width: int = 16, dropout: float = 0.2) -> None:
        super().__init__()
        self.parts = nn.ModuleList(Block(width, dropout) for _ in range(depth))

    def forward(self, x_NC: Tensor, shift_NC: Tensor) -> Tensor:
        for part in self.parts:
            x_NC = part(x_NC, shift_NC=shift_NC)
        return x_NC


def gradients(model: nn.Module, *inputs: object, autocast: bool = False) -> list[Tensor]:
    """The gradients of all parameters and float inputs after one step under a fixed seed."""
    leaves = [i.requires_grad_() for i in inputs if isinstance(i, Tensor) and i.is_floating_point()]
    for tensor in (*leaves, *model.parameters()):
        tensor.grad = None
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        output = model(*inputs)
    output.float().square().mean().backward()
    return [t.grad.clone() for t in (*leaves, *model.parameters()) if t.grad is not None]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def u_net(dropout: float = 0.1) -> nn.Module:
    torch.manual_seed(0)
    text = Text(vocabulary=300, length=8, width=16, layers=2, heads=2)
    model = build(UNet(resolution=16, channels=8, blocks=2, heads=2, dropout=dropout, text=text))
    for parameter in model.parameters():  # branches start at zero, which would make half of the gradients zero
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)
    return model


def u_net_inputs(samples: int = 4) -> tuple[Tensor, Tensor, Caption]:
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randint(0, 300, (samples, 8), generator=generator)
    mask = torch.arange(8)[None] < torch.randint(1, 9, (samples, 1), generator=generator)
    return (
        torch.randn(samples, 3, 16, 16, generator=generator),
        torch.rand(samples, generator=generator),
        Caption(tokens, mask),
    )


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
def test_u_net_gradients_are_equal_bit_for_bit(policy: str, autocast: bool) -> None:
    model = u_net()
    expected = gradients(model, *u_net_inputs(), autocast=autocast)
    activation.apply(model, policy, every=3)
    assert same(expected, gradients(model, *u_net_inputs(), autocast=autocast))
    torch.manual_seed(3)
    assert not same(expected, gradients(u_net(dropout=0.5), *u_net_inputs(), autocast=autocast))


NESTED = Plan((0, Segment((1, Segment((2, 3, Segment((4, 5)), 6)), 7)), 8, Segment((Segment((9, 10)), 11))))


@pytest.mark.parametrize("plan", [segments_of(12, 1), segments_of(12, 5), square_root(12), NESTED], ids=str)
def test_any_plan_gives_the_same_gradients(plan: Plan) -> None:
    torch.manual_seed(0)
    model = Stack(12)
    x, shift = torch.randn(5, 16), torch.randn(5, 16)
    expected = gradients(model, x, shift)
    attach(blocks_of(model), Chain(plan))
    assert same(expected, gradients(model, x, shift))


def test_full_equals_torchs_own_checkpoint() -> None:
    torch.manual_seed(0)
    model = Stack(3)
    x, shift = torch.randn(5, 16), torch.randn(5, 16)
    theirs = copy.deepcopy(model)
    for part in theirs.parts:
        forward = part.forward
        part.forward = lambda x, shift_NC, forward=forward: checkpoint(  # type: ignore[method-assign]
            forward, x, shift_NC=shift_NC, use_reentrant=False
        )
    activation.apply(model, "full")
    assert same(gradients(theirs, x, shift), gradients(model, x, shift))


def test_two_backward_passes_and_double_backward() -> None:
    torch.manual_seed(0)
    model = Stack(6, dropout=0.0)
    x, shift = torch.randn(5, 16, requires_grad=True), torch.randn(5, 16)

    def penalty() -> list[Tensor]:
        (gradient,) = torch.autograd.grad(model(x, shift).square().sum(), x, create_graph=True)
        model.zero_grad()
        loss = gradient.square().sum()
        loss.backward(retain_graph=True)
        loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    expected = penalty()
    activation.apply(model, "sqrt")
    for ours, theirs in zip(penalty(), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_frozen_blocks_and_inputs_without_gradient() -> None:
    torch.manual_seed(0)
    model = Stack(6)
    for part in model.parts[:4]:
        part.requires_grad_(False)
    x, shift = torch.randn(5, 16), torch.randn(5, 16)

    def step() -> list[Tensor]:
        torch.manual_seed(1)
        model.zero_grad()
        model(x, shift).square().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    expected = step()
    assert len(expected) == 2 * len(list(model.parts[0].parameters()))
    for policy in POLICIES:
        activation.apply(model, policy)
        assert same(expected, step())


def test_running_statistics_count_a_batch_once() -> None:
    torch.manual_seed(0)
    model = nn.Module()
    model.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(4))
    model.forward = lambda x: [x := block(x) for block in model.blocks][-1]  # type: ignore[method-assign]
    x = torch.randn(8, 4)
    start = copy.deepcopy(model.state_dict())
    gradients(model, x)
    expected = copy.deepcopy(model.state_dict())
    model.load_state_dict(start)
    activation.apply(model, "sqrt")
    gradients(model, x)
    assert all(torch.equal(expected[name], value) for name, value in model.state_dict().items())


def test_an_input_modified_in_place_is_an_error() -> None:
    model = Stack(2)
    activation.apply(model, "full")
    shift = torch.randn(5, 16)
    output = model(torch.randn(5, 16), shift)
    shift.add_(1)
    with pytest.raises(RuntimeError, match="modified in place"):
        output.sum().backward()


def test_a_block_that_changes_its_mind_is_an_error() -> None:
    class Fickle(nn.Module):
        calls = 0

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x * self.weight if self.calls == 1 else x[:2] * self.weight[:2]

    model = nn.Module()
    model.blocks = [Fickle()]
    activation.apply(model, "full")
    with pytest.raises(RuntimeError, match="differently the second time"):
        model.blocks[0](torch.randn(4, requires_grad=True)).sum().backward()


def test_blocks_are_the_innermost_items_of_module_lists() -> None:
    model = u_net()
    names = {module: name for name, module in model.named_modules()}
    assert [names[block] for block in blocks_of(model)] == [
        *(f"text.transformer.blocks.{n}" for n in range(2)),
        *(f"unet.encoder.down.{n}" for n in range(4)),
        "unet.encoder.middle.0",
        *(f"unet.up.{n}" for n in range(4)),
    ]


def test_a_model_can_name_its_blocks() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with pytest.raises(RecipeError, match=r"training.activation: found 'sqrt' for a model without blocks"):
        activation.apply(model, "sqrt")
    model.blocks = list(model)
    x = torch.randn(2, 4)
    expected = gradients(model, x)
    activation.apply(model, "sqrt")
    assert same(expected, gradients(model, x))


def test_names_copies_and_classes_stay_what_they_were() -> None:
    model = Stack(4)
    names, kind = list(model.state_dict()), type(model.parts[0])
    activation.apply(model, "sqrt")
    assert list(model.state_dict()) == names
    assert isinstance(model.parts[0], kind)
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    x, shift = torch.randn(5, 16), torch.randn(5, 16)
    assert torch.equal(copied(x, shift), x)
    assert not torch.equal(model(x, shift), x)
    activation.apply(model, "none")
    assert type(model.parts[0]) is kind


def test_an_unknown_policy_is_one_line() -> None:
    with pytest.raises(RecipeError, match="found 'some', expected one of none, full, every_k, sqrt, selective"):
        activation.apply(Stack(2), "some")  # type: ignore[arg-type]


class Thin(nn.Module):
    """A block that saves two activations: its input and that of the nonlinearity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(width))

    def forward(self, x_NC: Tensor) -> Tensor:
        return torch.sin(x_NC * self.scale)


def test_memory_of_a_chain_of_100_blocks() -> None:
    """Chen et al. 2016: n activations become about 2√n, times what a block saves."""
    model = nn.Module()
    model.blocks = nn.ModuleList(Thin(64) for _ in range(100))

    def step() -> None:
        x = start
        for block in model.blocks:
            x = block(x)
        x.sum().backward()

    start = torch.randn(512, 64)
    activations = {}
    for policy in ("none", "full", "sqrt"):
        activation.apply(model, policy)
        model.zero_grad()
        gc.collect()
        activations[policy] = peak_bytes(step) / (4 * start.numel())
    assert 200 <= activations["none"] <= 206
    assert 100 <= activations["full"] <= 106
    assert 9 + 20 <= activations["sqrt"] <= 10 + 20 + 6


def test_what_is_stored_goes_with_the_backward_pass_and_needs_no_collector() -> None:
    model = Stack(4)
    activation.apply(model, "sqrt")
    inputs = torch.randn(5, 16)
    gc.collect()
    gc.disable()
    try:
        output = model(inputs.clone(), inputs)
        frame = model.parts[0]._chain._open
        assert frame() is not None
        output.sum().backward()
        del output
        assert frame() is None
    finally:
        gc.enable()


def test_selective_keeps_less_than_none() -> None:
    model = Stack(16, width=32, dropout=0.0)
    x, shift = torch.randn(256, 32), torch.randn(256, 32)
    peaks = {}
    for policy in ("none", "selective", "full"):
        activation.apply(model, policy)
        model.zero_grad()
        gc.collect()
        peaks[policy] = peak_bytes(lambda: model(x, shift).sum().backward())
    assert peaks["full"] < peaks["selective"] < peaks["none"]


def test_selective_keeps_whatever_the_compiler_of_torch_would() -> None:
    """Two of its operations are left out: one runs only in backward passes, the other is cheap to recompute."""
    theirs = {*get_default_op_list().compute_intensive_ops}
    theirs -= {torch.ops.aten.convolution_backward, torch.ops.aten.upsample_bilinear2d}
    assert theirs <= {operation.overloadpacket for operation in KEPT}


@pytest.mark.parametrize("policy", ["sqrt", "selective"])
def test_under_torch_compile(policy: str) -> None:
    torch.manual_seed(0)
    model = Stack(4, dropout=0.0)
    x, shift = torch.randn(5, 16), torch.randn(5, 16)
    expected = gradients(model, x, shift)
    activation.apply(model, policy)
    compiled = torch.compile(model, backend="aot_eager")
    for _ in range(2):
        for ours, theirs in zip(gradients(compiled, x, shift), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["none", "full", "sqrt", "selective", 10_000])
def test_compiled_blocks(policy: str | int) -> None:
    """Each block is its own graph, which checkpointing puts into segments like any other block."""
    torch.manual_seed(0)
    model = Stack(5, dropout=0.0)
    x, shift = torch.randn(5, 16), torch.randn(5, 16)
    expected = gradients(model, x, shift)
    names = list(model.state_dict())
    activation.apply(model, policy, compile=True, report=lambda line: None)
    for _ in range(4):
        for ours, theirs in zip(gradients(model, x, shift), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert list(model.state_dict()) == names
    torch.compiler.reset()


def test_extended_blocks_of_a_kind_are_of_one_class() -> None:
    """Blocks of the same size then share a graph when they are compiled: torch distinguishes graphs by class."""
    blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    activation.apply(blocks, "full")
    (extended,) = {type(block) for block in blocks}
    assert issubclass(extended, nn.Linear)
    activation.apply(blocks, "none")
    assert {type(block) for block in blocks} == {nn.Linear}
    activation.apply(blocks, 10**9)
    assert {type(block) for block in blocks} == {extended}
