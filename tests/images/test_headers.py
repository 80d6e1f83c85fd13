"""Headers compared with Pillow, every way for a file to end too early, and sizes that no file has."""

import struct
from io import BytesIO

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from headrace.images.formats import MAX_SCANS, BadImage
from headrace.images.headers import (
    MAX_PIXELS,
    MAX_SIDE,
    Header,
    dimensions,
    format_of,
    media_type,
    read_header,
)
from tests.images.files import BGR, FILES, HEIGHT, WIDTH, mutated, opencv, resized


@pytest.mark.parametrize("name", FILES)
def test_format_and_size_are_those_that_pillow_reads(name: str) -> None:
    with Image.open(BytesIO(FILES[name])) as image:
        expected = Header(str(image.format).lower(), *image.size)
    assert read_header(FILES[name]) == expected == Header(name.split()[0], WIDTH, HEIGHT)
    assert read_header(np.frombuffer(FILES[name], np.uint8)) == expected
    assert dimensions(FILES[name]) == (HEIGHT, WIDTH)
    assert media_type(FILES[name]) == f"image/{expected.format}"


@pytest.mark.parametrize("name", [name for name in FILES if "appendix" not in name])
def test_every_part_of_a_file_that_ends_too_early_is_truncated(name: str) -> None:
    data = FILES[name]
    assert read_header(b"").problem == "empty"
    for end in range(1, len(data)):
        found = read_header(data[:end])
        assert found.problem == ("unknown format" if format_of(data[:end]) is None else "truncated"), end
        assert (found.width, found.height) in {(None, None), (WIDTH, HEIGHT)}


def test_the_size_of_a_truncated_file_is_known_if_its_header_is_whole() -> None:
    assert read_header(FILES["png"][:60]) == Header("png", WIDTH, HEIGHT, "truncated")
    assert read_header(FILES["png"][:20]) == Header("png", problem="truncated")


@pytest.mark.parametrize("suffix", [".tiff", ".ppm", ".avif", ".jp2", ".sr"])
def test_other_formats_have_a_size_but_are_not_checked(suffix: str) -> None:
    data = opencv(suffix, np.zeros((120, 200, 3), np.uint8))
    assert dimensions(data) == (120, 200)
    assert read_header(data) == Header(problem="unknown format")
    with pytest.raises(BadImage, match=r"^(corrupt|truncated|unknown format)$"):
        dimensions(data[:9])


LIMITS = {
    "png": [(1 << 14, 1 << 14), (MAX_SIDE, 1), (1, MAX_SIDE), (MAX_SIDE, 268)],
    "jpeg": [(1 << 14, 1 << 14), (65_500, 1), (1, 65_500), (65_500, 4098)],
    "gif": [(1 << 14, 1 << 14), (65_535, 1), (65_535, 4096)],
    "webp exif": [(1 << 14, 1 << 14), (MAX_SIDE, 268)],
    "bmp top row first": [(MAX_SIDE, 268), (1, MAX_SIDE)],
}


@pytest.mark.parametrize("name", LIMITS)
def test_the_limit_is_the_largest_size_that_is_allowed(name: str) -> None:
    kind = name.split()[0]
    for width, height in LIMITS[name]:
        found = read_header(resized(name, width, height))
        assert (found.width, found.height) == (width, height)
        # A bitmap of that size must have as many bytes, a PNG a thousandth. The other formats can be shorter.
        assert found.problem == ("truncated" if kind in ("bmp", "png") else None)
        assert dimensions(resized(name, width, height)) == (height, width)
    beyond = [(1 << 14, (1 << 14) + 1), (MAX_SIDE + 1, 1), (1, MAX_SIDE + 1), (MAX_SIDE, 269)]
    if kind == "jpeg":
        beyond = [(1 << 14, (1 << 14) + 1), (65_501, 1), (1, 65_501), (65_500, 4099)]
    if kind == "gif":
        beyond = [(1 << 14, (1 << 14) + 1), (65_535, 4097)]
    for width, height in beyond:
        assert read_header(resized(name, width, height)) == Header(kind, width, height, "too large")
        with pytest.raises(BadImage, match=r"^too large$"):
            dimensions(resized(name, width, height))


def test_a_recipe_can_lower_the_limit_but_not_raise_it() -> None:
    assert read_header(FILES["png"], max_pixels=WIDTH * HEIGHT).problem is None
    assert read_header(FILES["png"], max_pixels=WIDTH * HEIGHT - 1).problem == "too large"
    assert read_header(resized("png", 1 << 14, (1 << 14) + 1), max_pixels=4 * MAX_PIXELS).problem == "too large"


def test_sizes_that_fit_no_column_are_not_given() -> None:
    assert read_header(resized("png", (1 << 32) - 1, 1)) == Header("png", problem="too large")
    assert read_header(resized("bmp", 9, -(1 << 31))) == Header("bmp", problem="too large")


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("name", ["png", "jpeg", "gif", "webp lossy", "bmp", "bmp of OS/2"])
def test_a_side_of_zero(name: str, size: tuple[int, int]) -> None:
    assert read_header(resized(name, *size)) == Header(name.split()[0], problem="no pixels")


def test_a_negative_width_is_none() -> None:
    assert read_header(resized("bmp", -5, 5)).problem == "no pixels"


def _swapped(name: str, at: int, new: bytes) -> bytes:
    data = FILES[name]
    return data[:at] + new + data[at + len(new) :]


_FRAME = FILES["jpeg"].find(b"\xff\xc0")
_FRAME_END = _FRAME + 2 + struct.unpack_from(">H", FILES["jpeg"], _FRAME + 2)[0]
_SCAN = FILES["jpeg"].find(b"\xff\xda")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"no image at all", Header(problem="unknown format")),
        (b"GIF88a" + FILES["gif"][6:], Header(problem="unknown format")),
        (b"RIFF\x24\0\0\0WAVEfmt ", Header(problem="unknown format")),
        (_swapped("png", 12, b"IDAT"), Header("png", problem="corrupt")),
        (_swapped("jpeg", 2, b"\0"), Header("jpeg", problem="unknown format")),
        (_swapped("jpeg", 21, b"\2"), Header("jpeg", problem="corrupt")),
        # two frame headers, none at all, a segment shorter than its stated length, an end before the scan
        (
            FILES["jpeg"][:_FRAME_END] + FILES["jpeg"][_FRAME:],
            Header("jpeg", WIDTH, HEIGHT, "corrupt"),
        ),
        (FILES["jpeg"][:_FRAME] + FILES["jpeg"][_FRAME_END:], Header("jpeg", problem="corrupt")),
        (_swapped("jpeg", 4, b"\0\1"), Header("jpeg", problem="corrupt")),
        (_swapped("jpeg", _SCAN, b"\xff\xd9"), Header("jpeg", WIDTH, HEIGHT, "corrupt")),
        (FILES["gif"][:13] + bytes(768) + b";", Header("gif", problem="corrupt")),  # no image
        (_swapped("webp lossy", 23, b"\0"), Header("webp", problem="corrupt")),
        (_swapped("webp lossless", 20, b"\0"), Header("webp", problem="corrupt")),
        (_swapped("webp lossy", 12, b"VP9 "), Header("webp", problem="corrupt")),
        (_swapped("bmp", 14, b"\x10"), Header("bmp", problem="corrupt")),
        (_swapped("bmp", 30, b"\4"), Header("bmp", WIDTH, HEIGHT, "corrupt")),  # a JPEG inside a bitmap
    ],
)
def test_damaged_headers(data: bytes, expected: Header) -> None:
    if expected.problem == "unknown format":
        expected = Header(problem="unknown format")
    assert read_header(data) == expected


def test_a_jpeg_may_have_a_hundred_scans() -> None:
    data = FILES["jpeg progressive"]
    start, end = data.rfind(b"\xff\xda"), data.rfind(b"\xff\xd9")
    own, scan = data.count(b"\xff\xda"), data[start:end]
    comment = b"\xff\xfe\0\6\xff\xd9\xff\xda"  # a comment that holds markers is neither an end nor a scan
    for more, problem in ((MAX_SCANS - own, None), (MAX_SCANS - own + 1, "corrupt")):
        assert read_header(data[:end] + (comment + scan) * more + data[end:]).problem == problem
    assert read_header(data + scan * MAX_SCANS).problem is None  # what comes after the end does not count


def test_the_first_image_of_a_gif_may_make_its_canvas_larger() -> None:
    data = bytearray(FILES["gif"])
    data[6:10] = struct.pack("<HH", 8, 20)
    assert read_header(bytes(data)) == Header("gif", WIDTH, 20)
    # 35 bytes, a canvas of 8 × 8, and an image of 30000 × 30000
    bomb = b"GIF89a" + struct.pack("<HH", 8, 8) + b"\xf0" + bytes(8) + b"," + struct.pack("<HHHH", 0, 0, 30000, 30000)
    assert read_header(bomb + b"\0\2\2\x44\1\0;") == Header("gif", 30000, 30000, "too large")


def test_a_thumbnail_does_not_end_its_image() -> None:
    data = FILES["jpeg exif"]
    assert data.count(b"\xff\xd9") == 2
    assert read_header(data[:-2]).problem == "truncated"


@given(st.integers(0, 10**6))
def test_any_bytes_have_an_answer(seed: int) -> None:
    found = read_header(mutated(seed))
    assert found.problem is not None or found.width is not None
    assert (found.width is None) == (found.height is None)
    noise = np.random.default_rng(seed).bytes(40)
    for start in (b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"RIFFabcdWEBPVP8X", b"BM"):
        assert read_header(start + noise).problem is not None


def test_opencv_decodes_what_is_taken_and_finds_the_size_that_the_header_has() -> None:
    for name, data in FILES.items():
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert pixels.shape == BGR.shape, name


def test_an_avif_with_any_flipped_byte_raises_only_for_bad_images() -> None:
    buffer = BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "AVIF")
    refused = 0
    for place in range(len(buffer.getvalue())):
        damaged = bytearray(buffer.getvalue())
        damaged[place] ^= 255
        try:
            dimensions(np.frombuffer(bytes(damaged), np.uint8))
        except BadImage:
            refused += 1
    assert refused
