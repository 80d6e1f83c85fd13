"""Decoding against OpenCV and closed forms; what is no image is told apart by reason."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from headrace.loading.shard import decode as decoding
from headrace.loading.shard.decode import BadImage, decode, dimensions
from tests.loading.shard_tables import jpeg, png


def array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize("encoded", [png(1), png(1, channels=1), jpeg(1, 24)])
@pytest.mark.parametrize(("mode", "flag"), [("rgb", cv2.IMREAD_COLOR_RGB), ("gray", cv2.IMREAD_GRAYSCALE)])
def test_pixels_are_those_of_opencv(encoded: bytes, mode: str, flag: int) -> None:
    # two JPEG decoders may round differently
    difference = decode(array(encoded), mode).astype(int) - cv2.imdecode(array(encoded), flag)
    assert np.abs(difference).max() <= (0 if encoded[:4] == b"\x89PNG" else 3)


def test_transparency_is_composed_over_white() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 4), np.uint8)
    found = decode(array(cv2.imencode(".png", pixels)[1].tobytes()), "rgb")
    alpha = pixels[:, :, 3:].astype(float) / 255
    expected = pixels[:, :, 2::-1] * alpha + 255 * (1 - alpha)
    assert np.abs(found - expected).max() <= 0.51


def test_a_palette_with_a_transparent_entry_is_composed_over_white() -> None:
    # 1×1, 1 bit, a palette of one red, wholly transparent: written chunk by chunk
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    head = chunk(b"IHDR", (1).to_bytes(4, "big") * 2 + bytes([1, 3, 0, 0, 0]))
    body = chunk(b"PLTE", b"\xff\x00\x00") + chunk(b"tRNS", b"\x00") + chunk(b"IDAT", zlib.compress(b"\x00\x00"))
    encoded = b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")
    assert decode(array(encoded), "rgb").tolist() == [[[255, 255, 255]]]


def test_scaling_averages_areas() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    found = decode(array(cv2.imencode(".png", pixels)[1].tobytes()), "gray", lambda height, width: (4, 4))
    assert np.abs(found - pixels.reshape(4, 4, 4, 4).mean((1, 3))).max() <= 0.51


def test_a_jpeg_scaled_down_while_decoding_looks_as_if_scaled_after() -> None:
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8), (256, 256), interpolation=2)
    encoded = array(cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    after = cv2.resize(decode(encoded, "rgb").copy(), (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(decode(encoded, "rgb", lambda height, width: (64, 64)).astype(int) - after).mean() < 1.5


FORMATS = (".png", ".jpg", ".bmp", ".gif", ".webp", ".tiff", ".ppm", ".avif")


def encoded_as(suffix: str, height: int, width: int) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return array(cv2.imencode(suffix, pixels)[1].tobytes())


@pytest.mark.parametrize("suffix", FORMATS)
def test_dimensions_are_those_of_the_header(suffix: str) -> None:
    data = encoded_as(suffix, 12, 20)
    assert dimensions(data) == (12, 20)
    assert decode(data, "rgb").shape == (12, 20, 3)


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_image_of_too_many_pixels_is_not_decoded(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 239)
    for decoder in (decoding.cv2, decoding.simplejpeg):
        monkeypatch.setattr(decoder, "imdecode" if decoder is decoding.cv2 else "decode_jpeg", None)
    with pytest.raises(BadImage, match="too large"):
        decode(encoded_as(suffix, 12, 20), "rgb")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"no image at all", "unknown format"),
        (png(1)[:-30], "truncated"),
        (png(1)[:20], "truncated"),
        (png(1)[:200] + bytes(40) + png(1)[240:], "corrupt"),
        (jpeg(1)[:-100], "truncated"),
        (jpeg(1)[:30], "corrupt"),
    ],
)
def test_reasons_for_bad_images(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=f"^{reason}$"):
        decode(array(data), "rgb")
