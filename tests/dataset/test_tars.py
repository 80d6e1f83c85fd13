"""The members of a tar: neighbours or not, of every kind, and of compressed and damaged tars."""

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.dataset.source import tars
from headrace.dataset.source.account import ALONE, HIDDEN, IRREGULAR, REPLACED
from headrace.dataset.source.listing import File
from headrace.dataset.source.samples import grouped, name_in_tar
from tests.dataset.test_folders import Files, names, put, rows_of, tar_of

PAIR = [("0.png", b"zero"), ("0.txt", b"caption of 0"), ("1.png", b"one"), ("1.txt", b"caption of 1")]


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [0, 2, 1, 3], [3, 1, 2, 0]])
def test_members_need_not_be_neighbours(tmp_path: Path, order: list[int]) -> None:
    rows, reasons = rows_of(tmp_path, tar_of([PAIR[i] for i in order]))
    assert {key: (row["image"], row["captions"], row["path"]) for key, row in rows.items()} == {
        "0": (b"zero", ["caption of 0"], "x.tar/0.png"),
        "1": (b"one", ["caption of 1"], "x.tar/1.png"),
    }
    assert not reasons


def test_members_of_every_kind(tmp_path: Path) -> None:
    long = "d" * 90 + "/" + "n" * 120
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO(
            tar_of([("./0.png", b"old"), (f"{long}.png", b"long"), ("a\u0301/\u00e9.PNG", b"accents")], form)
        )
        with tarfile.open(fileobj=out, mode="a") as tar:
            for name, kind, target in [
                ("hard.png", tarfile.LNKTYPE, "./0.png"),
                ("soft.png", tarfile.SYMTYPE, "hard.png"),
                ("lost.png", tarfile.SYMTYPE, "nowhere"),
                ("round.png", tarfile.SYMTYPE, "round.png"),
                ("pipe.png", tarfile.FIFOTYPE, ""),
                ("folder.png", tarfile.DIRTYPE, ""),
            ]:
                member = tarfile.TarInfo(name)
                member.type, member.linkname = kind, target
                tar.addfile(member)
            for name, content in [
                ("0.png", b"new"),
                ("0.txt", b""),
                ("0.cls", b"3"),
                ("alone.txt", b""),
                (".x.png", b""),
            ]:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        rows, reasons = rows_of(tmp_path, out.getvalue())
        assert {key: row["image"] for key, row in rows.items()} == {
            "0": b"new",
            long: b"long",
            "a\u0301/\u00e9": b"accents",
            "hard": b"old",
            "soft": b"old",
        }
        assert reasons == {
            REPLACED: 1,
            tars.LINK_TO_NOTHING: 2,
            IRREGULAR: 1,
            "file: .cls": 1,
            ALONE: 1,
            HIDDEN: 1,
        }


def test_a_sparse_member(tmp_path: Path) -> None:
    content = b"start" + bytes(1 << 20) + b"end"
    put(tmp_path, {"0.png": content})
    os.truncate(tmp_path / "0.png", 5)
    with (tmp_path / "0.png").open("r+b") as file:
        file.seek(5 + (1 << 20))
        file.write(b"end")
    assert os.system(f"cd {tmp_path} && tar --sparse -cf x.tar 0.png") == 0
    rows, reasons = rows_of(tmp_path, (tmp_path / "x.tar").read_bytes())
    assert rows["0"]["image"] == content
    assert not reasons


@pytest.mark.parametrize("packed", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_tars_are_known_by_content(tmp_path: Path, packed) -> None:
    noise = random.Random(0).randbytes(20_000)
    whole = packed(tar_of([("0.png", noise), ("0.txt", b"zero"), ("1.png", noise[::-1])]))
    rows, reasons = rows_of(tmp_path, whole)
    assert {key: row["image"] for key, row in rows.items()} == {"0": noise, "1": noise[::-1]}
    assert not reasons
    rows, reasons = rows_of(tmp_path, whole[:-5000])
    # A block of bzip2 is 900 kB, and gives nothing without its end.
    assert {key: row["captions"] for key, row in rows.items()} == ({} if packed is bz2.compress else {"0": ["zero"]})
    assert reasons[tars.TRUNCATED]


@pytest.mark.parametrize(
    ("damage", "keys", "reason"),
    [
        (lambda data: data[:3000], {"0"}, tars.TRUNCATED),  # inside the last member
        (lambda data: data[:3072], {"0"}, tars.TRUNCATED),  # between two members, where no end mark follows
        (lambda data: data[:2048] + b"\xff" * 9 + data[2057:], set(), tars.TRUNCATED),  # a header
        (lambda data: data + data, {"0", "1"}, tars.TRAILING),
        (lambda data: data[:100], set(), tars.NOT_A_TAR),
        (lambda data: b"", set(), tars.NOT_A_TAR),
        (lambda data: b"<html>" * 500, set(), tars.NOT_A_TAR),
        (lambda data: b"\x1f\x8b" + b"no gzip", set(), tars.TRUNCATED),
    ],
)
def test_a_damaged_tar_gives_what_is_before_the_damage(tmp_path: Path, damage, keys: set[str], reason: str) -> None:
    rows, reasons = rows_of(tmp_path, damage(tar_of(PAIR)))
    assert set(rows) == keys
    assert reasons[reason] >= 1
    assert set(reasons) == {reason}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(names, st.binary(max_size=600)), max_size=8), st.integers(0, 20_000), st.integers(0, 255))
def test_every_member_of_a_tar_is_accounted_for(tmp_path: Path, members: Files, place: int, byte: int) -> None:
    rows, reasons = rows_of(tmp_path, tar_of(members))
    shown = {name for name, _ in members if not name.startswith(".")}
    samples, _ = grouped([File(name) for name in shown], name_in_tar)
    assert len(rows) + sum(n for reason, n in reasons.items() if reason.startswith("bad row")) == len(samples)
    assert reasons[REPLACED] == len(members) - len({name for name, _ in members})
    damaged = bytearray(tar_of(members))
    damaged[place % len(damaged)] = byte
    rows_of(tmp_path, bytes(damaged))  # raises nothing
