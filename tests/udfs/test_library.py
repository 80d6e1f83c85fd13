"""The functions of udfs/java/headrace: known answers, comparison with other libraries, and a result for any input."""

import base64
import datetime
import html
import math
import unicodedata
from decimal import Decimal
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from headrace import udfs

CLASSES = ["Captions", "Text", "Language", "Images", "Urls", "Parse"]
FUZZ_INPUTS, FUZZ_PARTS = 132_000, 4
LONG_TEXT = 100_000
"""characters"""


@pytest.fixture(scope="module", autouse=True)
def functions(spark, bridge_jar):
    return {name: udfs.register(spark, f"headrace.{name}") for name in CLASSES}


def answers(spark, function, inputs, sql_type="string"):
    """The results of a function of one argument, in the order of the inputs."""
    frame = spark.createDataFrame(list(enumerate(inputs)), f"i int, x {sql_type}").repartition(1)
    rows = frame.selectExpr("i", f"{function}(x) AS y").collect()
    return [row.y for row in sorted(rows)]


def check(spark, function, expected, sql_type="string"):
    assert dict(zip(expected, answers(spark, function, list(expected), sql_type), strict=True)) == expected


def encoded(extension, height=30, width=40, seed=0):
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return bytes(cv2.imencode(extension, image)[1])


def test_clean_makes_text_plain(spark):
    expected = {
        None: None,
        "": None,
        " \t\u200b\ufeff ": None,
        "a\u0000b\u0007 c": "ab c",
        "Tom &amp; Jerry&#39;s &eacute;t&eacute; &unknown; &#0;": "Tom & Jerry's été &unknown; &#0;",
        "ﬁne\u00a0 ①": "fine 1",
        "e\u0301": "é",
        ":smiling_face_with_heart-eyes: hi": "smiling face with heart-eyes hi",
        "at 10:30:45 in a:b:c": "at 10:30:45 in a:b:c",
        "👨\u200d👩\u200d👧": "👨\u200d👩\u200d👧",
    }
    check(spark, "clean", expected)


def test_plain_text_agrees_with_pythons_libraries(spark):
    texts = [f"{chr(point)}&{name};x" for point in range(0xC0, 0x180) for name in ("lt", "Uuml", "frac12", "euro")]
    expected = [" ".join(unicodedata.normalize("NFKC", html.unescape(text)).split()) for text in texts]
    assert answers(spark, "plain_text", texts) == expected


def test_without_emoji(spark):
    check(spark, "without_emoji", {"hi 👨‍👩‍👧 there 🇫🇷": "hi there", "1️⃣ 2 #": "2 #", "☀️": None, "été": "été"})


def test_functions_of_text_take_very_long_text(spark, acme_jar):
    udfs.register(spark, "acme.Fuzz", jar=acme_jar)
    names = spark.createDataFrame([(f"headrace.{name}",) for name in CLASSES], "name string").repartition(2)
    rows = names.selectExpr(f"fuzz_long(name, {LONG_TEXT}) AS failures").collect()
    assert [failure for row in rows for failure in row.failures] == []
    (cut,) = answers(spark, "without_emoji", ["cat" + "😀👨‍👩‍👧1️⃣" * (LONG_TEXT // 10) + "dog"])
    assert cut == "cat dog"


def test_images_in_base64(spark):
    image = encoded(".png") + b"\xfb\xff\xfe"  # base64 with + and /
    plain = base64.b64encode(image).decode()
    assert {"+", "/"} <= set(plain)
    texts = [
        plain,
        base64.encodebytes(image).decode(),
        f" {plain}\r\n",
        base64.urlsafe_b64encode(image).decode().rstrip("="),
        f"data:image/png;base64,{plain}",
        f"DATA:image/svg+xml;charset=utf-8;BASE64, {plain}",
        f"data:;base64,{plain.replace('+', '%2B').replace('/', '%2f').replace('=', '%3D')}",
    ]
    assert answers(spark, "image_from_base64", texts) == [bytearray(image)] * len(texts)
    others = [
        "<html>",
        "https://host/cat.png",
        "data:image/png,abcd",
        "data:image/png;base64",
        "ab*d",
        "abcde",
        "été",
        None,
    ]
    assert answers(spark, "image_from_base64", others) == [None] * len(others)
    assert answers(spark, "image_from_base64", ["", "data:image/png;base64,"]) == [b"", b""]


def test_best_caption(spark):
    def best(alt, captions, words):
        frame = spark.createDataFrame([(alt, captions)], "alt string, captions array<string>")
        return frame.selectExpr(f"best(alt, captions, {words})").first()[0]

    assert best("a good caption", ["a much longer caption"], 3) == "a good caption"
    assert best("short", [None, "two words", "three long words", " "], 3) == "three long words"
    assert best(None, [], 0) is None
    assert best(None, None, 0) is None
    assert best("短い説明文", [], 4) == "短い説明文"
    assert best(None, [None, "", "x"], 2) is None


def test_language_by_script(spark):
    expected = {
        "привет": "ru",
        "їжак": "uk",
        "こんにちは世界": "ja",
        "你好": "zh",
        "안녕": "ko",
        "سلام": "ar",
        "پرنده": "fa",
    }
    check(spark, "language_by_script", expected | {"hello": None, "123 😀": None, "γειά": "el", "สวัสดี": "th"})
    check(spark, "script", {"hello мир ok": "latin", "123": None, "漢字": "han"})


@pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", ".bmp", ".gif"])
def test_image_facts_agree_with_what_opencv_wrote(spark, extension):
    sizes = [(1, 1), (30, 40), (257, 3), (70, 300)]
    images = [encoded(extension, height, width) for height, width in sizes]
    facts = answers(spark, "image_facts", images, "binary")
    name = {".jpg": "jpeg"}.get(extension, extension[1:])
    assert [(fact.format, fact.height, fact.width) for fact in facts] == [(name, *size) for size in sizes]


def test_image_facts_of_other_bytes(spark):
    images = [
        None,
        b"",
        b"\x89PNG",
        b"\xff\xd8\xff",
        b"hello",
        encoded(".png")[:20],
        encoded(".jpg")[:30],
        b"BM" + bytes(60),
    ]
    assert answers(spark, "image_facts", images, "binary") == [None] * len(images)


def test_near_duplicates_share_their_key_but_for_few_bits(spark):
    def distance(a, b):
        return (int(a, 16) ^ int(b, 16)).bit_count()

    images = [encoded(".png", 90, 120), encoded(".jpg", 90, 120), encoded(".png", 300, 400), encoded(".bmp", 60, 80)]
    others = [encoded(".png", 90, 120, seed) for seed in range(1, 9)]
    keys = answers(spark, "near_duplicate_key", images + others, "binary")
    assert all(distance(keys[0], key) <= 6 for key in keys[:4])
    assert all(distance(keys[0], key) >= 16 for key in keys[4:])
    assert answers(spark, "near_duplicate_key", [b"GIF89a", images[0][:60]], "binary") == [None, None]


def test_aspect_bucket_is_the_nearest(spark):
    names = [
        "1:3",
        "9:21",
        "1:2",
        "9:16",
        "2:3",
        "3:4",
        "4:5",
        "1:1",
        "5:4",
        "4:3",
        "3:2",
        "16:9",
        "2:1",
        "21:9",
        "3:1",
    ]
    ratios = {name: math.log(int(name.split(":")[0]) / int(name.split(":")[1])) for name in names}
    rng = np.random.default_rng(0)
    sizes = [(int(w), int(h)) for w, h in rng.integers(1, 4000, (200, 2))]
    frame = spark.createDataFrame([*sizes, (0, 5), (-3, 5)], "w int, h int").coalesce(1)
    found = [row[0] for row in frame.selectExpr("aspect_bucket(w, h)").collect()]
    assert found[-2:] == [None, None]
    for (width, height), name in zip(sizes, found, strict=False):
        wanted = math.log(width / height)
        assert abs(ratios[name] - wanted) <= min(abs(ratio - wanted) for ratio in ratios.values()) + 1e-12


def test_url_parts_agree_with_pythons(spark):
    urls = [
        "https://user:pw@Example.COM:8080/a/b.JPG?x=1&y#frag",
        "http://[::1]/",
        "ftp://h",
        "mailto:a@b.c",
        "http://h/?",
        "s:",
    ]
    for url, parts in zip(urls, answers(spark, "url_parts", urls), strict=True):
        split = urlsplit(url)
        found = (parts.scheme, parts.host and parts.host.strip("[]"), parts.port, parts.path)
        assert found == (split.scheme, split.hostname, split.port, split.path)
        assert (parts.query or "", parts.fragment or "") == (split.query, split.fragment)
    check(
        spark, "url_extension", {urls[0]: "jpg", "http://h/a.": None, "http://h/.x": None, "http://h/": None, "x": None}
    )
    check(spark, "url_parts", {"http://a b/": None, "http://h:99999/": None, "": None, "//h/p": None})


def test_parsing_gives_a_value_or_nothing(spark):
    check(
        spark,
        "parse_long",
        {" 42 ": 42, "-9223372036854775808": -(2**63), "9223372036854775808": None, "1.0": None, "٣": 3},
    )
    check(
        spark,
        "parse_double",
        {"1.5": 1.5, ".5e-3": 5e-4, "1e999": None, "NaN": None, "0x1p3": None, "1d": None, "": None},
    )
    tenth = Decimal("0.1")
    check(spark, "parse_decimal", {"0.1": tenth, "1e20": None, "1e-19": None, "-1e19": Decimal(-(10**19)), "x": None})
    leap = datetime.date(2024, 2, 29)
    check(
        spark,
        "parse_date",
        {"2024-02-29": leap, "20240229": leap, "29.02.2024": leap, "2023-02-29": None, "02/03/2024": None},
    )
    noon = datetime.datetime(2024, 2, 29, 12)
    check(spark, "parse_date_time", {"2024-02-29T12:00": noon, "2024:02:29 12:00:00": noon, "2024-02-29": None})
    times = [
        "Thu, 29 Feb 2024 12:00:00 GMT",
        "2024-02-29T13:00:00+01:00",
        "2024-02-29T12:00:00",
        "9999999-01-01T00:00:00Z",
    ]
    frame = spark.createDataFrame([(time,) for time in times], "x string").coalesce(1)
    found = [row[0] for row in frame.selectExpr("unix_seconds(parse_instant(x))").collect()]
    assert found == [1709208000, 1709208000, None, None]


def test_every_function_is_total(spark, acme_jar):
    udfs.register(spark, "acme.Fuzz", jar=acme_jar)
    images = [encoded(kind, seed=seed) for kind in (".png", ".jpg", ".webp", ".bmp", ".gif") for seed in range(2)]
    seeds = spark.createDataFrame([(images,)], "images array<binary>").crossJoin(
        spark.range(0, FUZZ_PARTS, 1, FUZZ_PARTS)
    )
    each = FUZZ_INPUTS // FUZZ_PARTS // len(CLASSES)
    calls = [f"fuzz('headrace.{name}', id, {each}, images) AS {name}" for name in CLASSES]
    rows = seeds.selectExpr(*calls).collect()
    assert len(rows) * len(CLASSES) * each >= 100_000
    assert [failure for row in rows for failures in row for failure in failures] == []
