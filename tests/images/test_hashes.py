"""Any changed byte changes the content hash; changes that are hard to see hardly change the perceptual hash."""

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.images.hashes import content_hash, perceptual_hash
from tests.images.files import FILES


def test_any_byte_changes_the_content_hash() -> None:
    hashes = {content_hash(FILES["png"][:-1] + bytes([i])) for i in range(256)}
    assert len(hashes) == 256
    assert {len(h) for h in hashes} == {32}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_perceptual_hash_changes_little_with_size_and_compression(seed: int) -> None:
    small = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)
    pixels = cv2.resize(small, (96, 96), interpolation=cv2.INTER_CUBIC)
    squeezed = cv2.imencode(".jpg", cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA), [1, 70])[1]
    other = cv2.resize(small[::-1], (96, 96), interpolation=cv2.INTER_CUBIC)
    h, alike, different = (perceptual_hash(p) for p in (pixels, cv2.imdecode(squeezed, cv2.IMREAD_UNCHANGED), other))
    assert ((h ^ alike) & (2**64 - 1)).bit_count() <= 6
    assert ((h ^ different) & (2**64 - 1)).bit_count() > 10
    assert -(2**63) <= h < 2**63
