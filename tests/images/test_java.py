"""Java's functions and `read_header` give the same answers for the same bytes."""

import struct

import cv2
import numpy as np
import pytest

from headrace import udfs
from headrace.images.hashes import perceptual_hash
from headrace.images.headers import Header, read_header
from headrace.images.pixels import decode_as_stored
from tests.images.files import FILES, mutated, opencv, resized, with_stray_bytes

SIZES = [
    (0, 1),
    (1, 0),
    (1, 1),
    (1 << 14, 1 << 14),
    (1 << 14, (1 << 14) + 1),
    (65_500, 1),
    (65_501, 1),
    (1, 65_535),
    (65_535, 65_535),
    (1_000_000, 268),
    (1_000_000, 269),
    (1_000_001, 1),
    ((1 << 24), 1 << 24),
    ((1 << 31) - 1, (1 << 31) - 1),
    (9, -9),
    (-9, 9),
    (9, -(1 << 31)),
    ((1 << 32) - 1, 1),
]
STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8", b"GIF87a", b"GIF89a", b"RIFFabcdWEBP", b"BM", b"")


def noise(seed: int) -> bytes:
    """Random bytes that usually begin like one of the formats."""
    rng = np.random.default_rng(seed)
    return STARTS[seed % len(STARTS)] + rng.choice([0, 1, 12, 40, 0xFF, 0xC0, 0xDA], 60).astype(np.uint8).tobytes()


def damaged() -> list[bytes]:
    """Files of every format, cut off, with made-up sizes, with wrong bytes, with stray bytes; and noise."""
    found = [data[:end] for data in FILES.values() for end in {*range(min(len(data), 90)), *range(0, len(data), 31)}]
    found += [resized(name, *size) for name in FILES for size in SIZES]
    found += [data for name in FILES for data in with_stray_bytes(name)]
    progressive = FILES["jpeg progressive"]
    scan, end = progressive.rfind(b"\xff\xda"), progressive.rfind(b"\xff\xd9")
    found += [progressive[:end] + progressive[scan:end] * more + progressive[end:] for more in range(85, 100)]
    found += [FILES["gif"][:13] + bytes(768) + b";", FILES["bmp"][:30] + b"\4" + FILES["bmp"][31:]]
    return [*found, *map(mutated, range(3000)), *map(noise, range(1000))]


@pytest.fixture(scope="module")
def java(spark, bridge_jar):
    """The answers of Java's functions: (format, width, height), problem and near-duplicate key of each image."""
    udfs.register(spark, "headrace.Images", prefix="java_")

    def answers(images: list[bytes]) -> list[tuple[tuple | None, str | None, str | None]]:
        frame = spark.createDataFrame(list(enumerate(images)), "i int, x binary").repartition(2)
        names = ("image_facts", "image_problem", "near_duplicate_key")
        rows = frame.selectExpr("i", *(f"java_{name}(x) AS {name}" for name in names)).collect()
        return [(row[1] and tuple(row[1]), row[2], row[3]) for row in sorted(rows, key=lambda row: row[0])]

    return answers


def facts(header: Header) -> tuple | None:
    """What Java returns as a record: nothing if there is no size."""
    return None if header.width is None else (header.format, header.width, header.height)


def test_real_files_have_the_same_facts_and_no_problem(java) -> None:
    for (name, data), (found, problem, _) in zip(FILES.items(), java(list(FILES.values())), strict=True):
        assert (found, problem) == (facts(read_header(data)), None), name


def test_damaged_files_have_the_same_facts_and_problems(java) -> None:
    images = damaged()
    headers = [read_header(image) for image in images]
    differ = []
    for image, header, (found, problem, _) in zip(images, headers, java(images), strict=True):
        if (found, problem) != (facts(header), header.problem):
            differ.append((image[:40], found, problem, header))
    assert differ == []
    # Damage and noise produce every possible answer.
    reasons = {(header.format, header.problem) for header in headers}
    for name in ("png", "jpeg", "gif", "webp", "bmp"):
        assert {problem for kind, problem in reasons if kind == name} == {
            None,
            "truncated",
            "corrupt",
            "too large",
            "no pixels",
        }
    assert {problem for kind, problem in reasons if kind is None} == {"empty", "unknown format"}


def test_near_duplicate_keys_are_nearly_those_of_the_build(java) -> None:
    """Both are the difference hash. Java skips pixels before it averages, so a few bits differ."""
    rng = np.random.default_rng(0)
    for width, height in ((90, 72), (117, 100), (900, 720)):
        smooth = cv2.resize(rng.integers(0, 256, (6, 7, 4), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
        images = [opencv(suffix, smooth[:, :, :3]) for suffix in (".png", ".jpg", ".gif", ".bmp")]
        images.append(opencv(".png", smooth))
        for image, (_, _, key) in zip(images, java(images), strict=True):
            mine = perceptual_hash(decode_as_stored(image)) & (2**64 - 1)
            assert (mine ^ int(key, 16)).bit_count() <= 3, (width, image[:4])


def test_bad_images_have_no_near_duplicate_key(java) -> None:
    large = opencv(".png", np.zeros(((1 << 13) + 1, 1 << 13), np.uint8))
    assert read_header(large).problem is None
    # 35 bytes: a canvas of 8 × 8 with an image of 30000 × 30000
    gif = b"GIF89a" + struct.pack("<HH", 8, 8) + b"\xf0" + bytes(8) + b"," + struct.pack("<HHHH", 0, 0, 30000, 30000)
    images = [
        large,
        gif + b"\0\2\2\x44\1\0;",
        resized("png", 1 << 14, (1 << 14) + 1),
        FILES["jpeg"][:-30],
        FILES["png"][:-1],
        b"",
        b"no image",
    ]
    assert [key for _, _, key in java(images)] == [None] * len(images)
