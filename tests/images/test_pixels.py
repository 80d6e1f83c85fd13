"""Decoding compared with OpenCV and closed forms, and why bytes are refused."""

from __future__ import annotations

import tracemalloc
import zlib
from fractions import Fraction
from io import BytesIO

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from headrace.images import headers
from headrace.images.formats import MAX_SCANS, BadImage
from headrace.images.headers import Header, dimensions, read_header
from headrace.images.pixels import decode, decode_as_stored, eight_bits, grayscale, over_white
from tests.images.files import (
    BGR,
    BGRA,
    FILES,
    HEIGHT,
    WIDTH,
    mutated,
    opencv,
    pillow,
    png_of,
    resized,
    with_stray_bytes,
)
from tests.loading.shard_tables import jpeg, png


def array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


@pytest.mark.parametrize("encoded", [png(1), png(1, channels=1), jpeg(1, 24)])
@pytest.mark.parametrize("mode", ["rgb", "gray"])
def test_pixels_are_those_of_opencv(encoded: bytes, mode: str) -> None:
    expected = cv2.imdecode(array(encoded), cv2.IMREAD_COLOR_RGB)
    if mode == "gray":  # not IMREAD_GRAYSCALE, by which libpng makes gray with other weights
        expected = cv2.cvtColor(expected, cv2.COLOR_RGB2GRAY)
    # two JPEG decoders may round differently
    difference = decode(array(encoded), mode).astype(int) - expected
    assert np.abs(difference).max() <= (0 if encoded[:4] == b"\x89PNG" else 3)


def test_transparency_is_composed_over_white() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 4), np.uint8)
    found = decode(array(cv2.imencode(".png", pixels)[1].tobytes()), "rgb")
    alpha = pixels[:, :, 3:].astype(float) / 255
    expected = pixels[:, :, 2::-1] * alpha + 255 * (1 - alpha)
    assert np.abs(found - expected).max() <= 0.51


def test_a_palette_with_a_transparent_entry_is_composed_over_white() -> None:
    # 1×1, a palette with one fully transparent red
    encoded = png_of(np.zeros((1, 1, 1)), 8, 3, (b"PLTE", b"\xff\0\0"), (b"tRNS", b"\0"))
    assert decode(array(encoded), "rgb").tolist() == [[[255, 255, 255]]]


def test_scaling_averages_areas() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)
    found = decode(array(cv2.imencode(".png", pixels)[1].tobytes()), "gray", lambda height, width: (4, 4))
    assert np.abs(found - pixels.reshape(4, 4, 4, 4).mean((1, 3))).max() <= 0.51


def test_a_jpeg_scaled_down_while_decoding_looks_as_if_scaled_afterwards() -> None:
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8), (256, 256), interpolation=2)
    encoded = array(cv2.imencode(".jpg", smooth, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    after = cv2.resize(decode(encoded, "rgb").copy(), (64, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(decode(encoded, "rgb", lambda height, width: (64, 64)).astype(int) - after).mean() < 1.5


@pytest.mark.parametrize("name", FILES)
def test_every_format_has_the_pixels_of_the_picture(name: str) -> None:
    found = decode(array(FILES[name]), "rgb").astype(int)
    assert found.shape == (HEIGHT, WIDTH, 3)
    gray = decode(array(FILES[name]), "gray").astype(int)
    luma = found @ [0.299, 0.587, 0.114]
    assert np.abs(gray - luma).max() <= 6  # a JPEG stores luma from before colours are clamped to 0 and 255
    stored = decode_as_stored(FILES[name])
    assert np.abs(grayscale(stored) - gray).max() <= 6


EXACT = ("png", "png 16 bits", "webp lossless", "bmp", "bmp top row first", "bmp of OS/2")


@pytest.mark.parametrize("name", EXACT)
def test_formats_without_loss_have_the_very_pixels(name: str) -> None:
    assert (decode(array(FILES[name]), "rgb")[:, :, ::-1] == BGR).all()
    assert (decode_as_stored(FILES[name]) == BGR).all()


def test_pixels_as_stored_have_the_channels_of_the_file() -> None:
    assert decode_as_stored(FILES["png gray"]).shape == (HEIGHT, WIDTH)
    assert decode_as_stored(FILES["jpeg gray"]).shape == (HEIGHT, WIDTH)
    assert (decode_as_stored(FILES["png alpha"]) == BGRA).all()
    assert (decode_as_stored(FILES["png 16 bits alpha"]) == BGRA).all()
    assert np.abs(decode_as_stored(FILES["jpeg"]) - BGR.astype(int)).mean() < 12


def test_16_bits_become_8_by_rounding() -> None:
    every = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    expected = [[round(Fraction(int(v), 257)) for v in row] for row in every]
    assert eight_bits(every).tolist() == expected
    assert decode(array(opencv(".png", every)), "gray").tolist() == expected
    assert decode_as_stored(opencv(".png", every)).tolist() == expected
    assert decode(array(opencv(".tiff", every)), "gray").tolist() == expected


SIXTEEN = cv2.resize(np.random.default_rng(2).integers(0, 1 << 16, (4, 5, 4)).astype(np.uint16), (WIDTH, HEIGHT))


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize(("colour_type", "channels"), [(0, [0]), (2, [0, 1, 2]), (4, [0, 3]), (6, [0, 1, 2, 3])])
def test_every_png_of_16_bits_is_that_of_8_within_one(colour_type: int, channels: list[int], transparent: bool) -> None:
    """Gray, RGB, gray with alpha and RGB with alpha; of the first two, one value may be transparent (tRNS)."""
    samples = SIXTEEN[:, :, channels]
    chunks = [(b"tRNS", samples[3, 4].astype(">u2").tobytes())] if transparent and colour_type in (0, 2) else []
    data = png_of(samples, 16, colour_type, *chunks)
    colours = samples[:, :, : 1 if colour_type in (0, 4) else 3] / 65535
    alpha = samples[:, :, -1:] / 65535 if colour_type in (4, 6) else np.ones((HEIGHT, WIDTH, 1))
    if chunks:
        alpha = np.where((samples == samples[3, 4]).all(-1, keepdims=True), 0, alpha)
    expected = 255 * (colours * alpha + 1 - alpha) * np.ones(3)
    assert np.abs(decode(array(data), "rgb") - expected).max() <= 1.5
    assert np.abs(decode(array(data), "gray") - expected @ [0.299, 0.587, 0.114]).max() <= 1.5
    stored = decode_as_stored(data)
    assert stored.dtype == np.uint8
    assert np.abs(grayscale(stored) - expected @ [0.299, 0.587, 0.114]).max() <= 1.5
    eight = [(kind, eight_bits(samples[3, 4]).reshape(-1).astype(">u2").tobytes()) for kind, _ in chunks]
    scaled = eight_bits(samples.reshape(HEIGHT, -1)).reshape(samples.shape)
    if not chunks:  # in 8 bits, other values may be as transparent
        assert (stored == decode_as_stored(png_of(scaled, 8, colour_type, *eight))).all()


def test_composing_and_converting_copy_no_whole_canvas() -> None:
    pixels = np.zeros((2048, 2048, 4), np.uint8)
    for function, channels in ((over_white, 3), (grayscale, 1)):
        tracemalloc.start()
        function(pixels)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < (channels + 2) << 22, function


def test_every_colour_with_every_alpha_over_white_is_exact() -> None:
    colour, alpha = np.mgrid[0:256, 0:256].astype(np.uint8)
    found = over_white(np.dstack([colour, colour, colour, alpha]))
    assert (found == found[:, :, :1]).all()
    c, a = colour.astype(int), alpha.astype(int)
    assert (found[:, :, 0] == (c * a + 255 * (255 - a) + 127) // 255).all()
    assert over_white(BGR) is BGR


def test_the_build_and_the_loader_see_the_same_gray() -> None:
    for name in ("png alpha", "png 16 bits alpha", "webp alpha", "bmp alpha", "gif"):
        assert (grayscale(decode_as_stored(FILES[name])) == decode(array(FILES[name]), "gray")).all(), name


def refused(data: bytes) -> str | None:
    """Why the loader does not decode `data`."""
    try:
        decode(array(data), "rgb")
    except BadImage as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", [name for name in FILES if "appendix" not in name])
def test_the_loader_refuses_every_truncated_file_as_the_build_does(name: str) -> None:
    data = FILES[name]
    for end in range(0, len(data), 7):
        assert refused(data[:end]) == read_header(data[:end]).problem is not None, end


def test_the_loader_refuses_what_the_build_refuses() -> None:
    for seed in range(2000):
        data = mutated(seed)
        problem = read_header(data).problem
        if problem is not None:
            assert refused(data) == problem, (seed, data)


def test_at_the_limit_the_build_and_the_loader_agree() -> None:
    """2²⁸ pixels are decoded, at an eighth of their size. One more row is not."""
    data = cv2.imencode(".jpg", np.full((1 << 14, 1 << 14), 77, np.uint8))[1].tobytes()
    assert read_header(data).problem is None
    found = decode(array(data), "gray", lambda height, width: (4, 4))
    assert found.tolist() == [[77] * 4] * 4
    frame = data.find(b"\xff\xc0")
    beyond = data[: frame + 5] + ((1 << 14) + 1).to_bytes(2, "big") + data[frame + 7 :]
    assert read_header(beyond).problem == refused(beyond) == "too large"


@pytest.mark.parametrize(
    ("name", "width", "height"),
    [
        ("png", 1 << 14, (1 << 14) + 1),
        ("png", 1_000_001, 1),
        ("png 16 bits alpha", 1, 1_000_001),
        ("jpeg", 65_501, 1),
        ("jpeg cmyk", 1 << 14, (1 << 14) + 1),
        ("gif", 1 << 14, (1 << 14) + 1),
        ("webp exif", 1 << 14, (1 << 14) + 1),
        ("bmp", 1 << 14, (1 << 14) + 1),
    ],
)
def test_a_bomb_is_never_decoded(name: str, width: int, height: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = resized(name, width, height)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    assert read_header(bomb).problem == refused(bomb) == "too large"
    with pytest.raises(BadImage, match=r"^too large$"):
        decode_as_stored(bomb)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".webp", ".tiff", ".ppm", ".avif"])
def test_the_limit_holds_for_every_format(suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = opencv(suffix, np.zeros((12, 20, 3), np.uint8))
    monkeypatch.setattr(headers, "MAX_PIXELS", 240)
    assert refused(data) is None
    monkeypatch.setattr(headers, "MAX_PIXELS", 239)
    assert refused(data) == "too large"


def test_a_large_photograph_leaves_no_memory_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.images.pixels._KEPT_SCRATCH", 64 * 64 * 3)
    small, large = (array(opencv(".jpg", np.zeros((side, side, 3), np.uint8))) for side in (64, 65))
    kept = decode(small, "rgb")
    assert np.shares_memory(kept, decode(small, "rgb"))
    assert not np.shares_memory(decode(large, "rgb"), decode(large, "rgb"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"no image at all", "unknown format"),
        (png(1)[:-30], "truncated"),
        (png(1)[:20], "truncated"),
        (png(1)[:200] + bytes(40) + png(1)[240:], "corrupt"),
        (jpeg(1)[:-100], "truncated"),
        (jpeg(1)[:30], "truncated"),
        (FILES["jpeg cmyk"][:-20], "truncated"),
        (opencv(".tiff")[:-20], "corrupt"),
        (resized("gif", 0, 5), "no pixels"),
    ],
)
def test_reasons_for_bad_images(data: bytes, reason: str) -> None:
    assert refused(data) == reason


def with_chunk(data: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk, right after its header."""
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return data[:33] + len(content).to_bytes(4, "big") + kind + content + checksum + data[33:]


@pytest.mark.parametrize(("kind", "content"), [(b"sRGB", b"\0"), (b"gAMA", (45455).to_bytes(4, "big"))])
def test_gray_does_not_depend_on_a_gamma(kind: bytes, content: bytes) -> None:
    bgr = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    bgr[0, 0] = (0, 0, 255)
    encoded = array(with_chunk(opencv(".png", bgr), kind, content))
    gray = decode(encoded, "gray")
    assert gray[0, 0] == 76  # 0.299 · 255
    assert np.array_equal(gray, grayscale(decode_as_stored(encoded.tobytes())))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_gray_png_may_call_one_value_transparent(bits: int) -> None:
    """Two pixels, the values 0 and 1 of `bits` bits; 0 is transparent."""
    header = (2).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([bits, 0, 0, 0, 0])
    row = bytes([0]) + (0b01 << (8 - 2 * bits) if bits < 8 else 1).to_bytes(max(2 * bits // 8, 1), "big")
    body = zlib.compress(row)
    parts = [(b"IHDR", header), (b"tRNS", b"\0\0"), (b"IDAT", body), (b"IEND", b"")]
    encoded = b"\x89PNG\r\n\x1a\n" + b"".join(
        len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        for kind, content in parts
    )
    second = {1: 255, 2: 85, 4: 17, 8: 1, 16: 0}[bits]
    assert decode(array(encoded), "gray").tolist() == [[255, second]]
    assert decode(array(encoded), "rgb").tolist() == [[[255] * 3, [second] * 3]]
    assert decode_as_stored(encoded)[0, :, 3].tolist() == [0, 255]


def pillow_pixels(data: bytes, mode: str = "RGBA") -> np.ndarray:
    """The pixels as Pillow has them, composed over white."""
    with Image.open(BytesIO(data)) as image:
        pixels = np.asarray(image.convert(mode)).astype(float)
    alpha = pixels[:, :, 3:] / 255
    return pixels[:, :, :3] * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("name", [name for name in FILES if "appendix" not in name])
def test_stray_bytes_do_no_harm(name: str) -> None:
    """The build and the loader take what Pillow opens, and find the same image in it."""
    whole = decode(array(FILES[name]), "rgb").copy().astype(int)
    for data in with_stray_bytes(name):
        assert read_header(data) == Header(name.split()[0], WIDTH, HEIGHT)
        assert dimensions(data) == (HEIGHT, WIDTH)
        assert np.abs(decode(array(data), "rgb") - whole).max() <= 3  # two JPEG decoders may round differently
        assert np.abs(pillow_pixels(data) - whole).max() <= 3
        assert decode(array(data), "gray", lambda height, width: (6, 7)).shape == (6, 7)
        stored = over_white(decode_as_stored(data))
        stored = cv2.cvtColor(stored, cv2.COLOR_GRAY2BGR) if stored.ndim == 2 else stored
        assert np.abs(stored[:, :, ::-1].astype(int) - whole).max() <= 3


def test_a_jpeg_with_very_many_scans_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = FILES["jpeg progressive"]
    start, end = data.rfind(b"\xff\xda"), data.rfind(b"\xff\xd9")
    bomb = data[:end] + data[start:end] * MAX_SCANS + data[end:]
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    assert refused(bomb) == read_header(bomb).problem == "corrupt"
    # a sequential JPEG whose first scan lacks a component is decoded to its last scan, too
    data, scan = FILES["jpeg"], FILES["jpeg"].find(b"\xff\xda")
    first = b"\xff\xda\0\x08\1\1\0\0\x3f\0" + data[scan + 14 : -2]
    assert refused(data[:scan] + first * (MAX_SCANS + 1) + data[-2:]) == "corrupt"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_a_tiff_of_every_mode_is_composed_over_white_once(mode: str) -> None:
    data = pillow("TIFF", mode)
    expected = pillow_pixels(data)
    assert np.abs(decode(array(data), "rgb") - expected).max() <= 0.51
    assert np.abs(decode(array(data), "gray") - expected @ [0.299, 0.587, 0.114]).max() <= 1


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_a_tiff_that_does_not_say_what_is_white_is_refused(mode: str) -> None:
    buffer = BytesIO()
    Image.new(mode, (4, 3)).save(buffer, "TIFF")
    assert refused(buffer.getvalue()) == "unknown format"


@pytest.mark.parametrize("largest", [1, 100, 255, 1000, 65535])
def test_the_largest_value_of_a_pgm_is_white(largest: int) -> None:
    values = [0, largest // 2, largest]
    body = b"".join(v.to_bytes(1 if largest < 256 else 2, "big") for v in values)
    found = decode(array(b"P5 3 1 %d\n" % largest + body), "gray")
    assert np.abs(found[0] - np.array(values) * 255 / largest).max() <= 0.51


def test_large_images_are_composed_band_by_band(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [FILES[name] for name in FILES] + [pillow("TIFF", mode) for mode in ("L", "P", "RGB", "RGBA")]
    wanted = [[decode(array(data), mode).copy() for mode in ("rgb", "gray")] for data in images]
    for room in ("pixels", "pillow"):
        monkeypatch.setattr(f"headrace.images.{room}._BAND", 2 * WIDTH + 1)
    for data, expected in zip(images, wanted, strict=True):
        for mode, pixels in zip(("rgb", "gray"), expected, strict=True):
            assert np.array_equal(decode(array(data), mode), pixels)  # type: ignore[arg-type]


def test_a_sun_raster_in_one_channel_is_gray_and_rgb() -> None:
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    encoded = array(opencv(".ras", stored))
    assert np.array_equal(decode(encoded, "gray"), stored)
    assert np.array_equal(decode(encoded, "rgb"), np.repeat(stored[..., None], 3, 2))
