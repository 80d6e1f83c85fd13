"""Pixels of files and of networks: a lossless round trip."""

import pytest
import torch

from headrace.models.pixels import from_uint8, to_uint8


def test_every_value_survives_the_round_trip() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    found = from_uint8(every)
    assert found.dtype == torch.float32
    assert (found.min(), found.max()) == (-1, 1)
    assert torch.equal(to_uint8(found), every)
    assert torch.equal(from_uint8(every.double()), found)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float64])
def test_values_beyond_are_cut_off_and_those_between_rounded(kind: torch.dtype) -> None:
    x = torch.tensor([-3, -1, -0.9961, 0.25, 1, 7], dtype=kind)
    assert to_uint8(x).tolist() == [0, 0, 0, 159, 255, 255]
    assert to_uint8(x).dtype == torch.uint8
