"""The input of the build benchmarks: Parquet files of incompressible images, with captions and conditions."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.images.formats import PNG_SIGNATURE

SHARD_BYTES = 64 << 20
FILE_BYTES = 100 << 20
SCHEMA = pa.schema(
    [
        *(("id", pa.string()), ("image", pa.binary()), ("captions", pa.list_(pa.string()))),
        ("conditions", pa.list_(pa.struct([("kind", pa.string()), ("image", pa.binary())]))),
    ]
)
_FRAME = len(PNG_SIGNATURE) + 25 + 12 + 12  # bytes of a file around its noise


@dataclass(frozen=True)
class Shape:
    """Images of `kilobytes` kB, each with so many captions and conditions. A condition is 1/16 of an image's size."""

    kilobytes: float
    captions: int
    conditions: int

    @property
    def unique_bytes(self) -> float:
        """Bytes of an image and its conditions."""
        return self.kilobytes * 1000 * (1 + self.conditions / 16)

    def arguments(self) -> list[str]:
        """This shape as arguments of the benchmark."""
        named = {"kilobytes": self.kilobytes, "captions": self.captions, "conditions": self.conditions}
        return [part for name, value in named.items() for part in (f"--{name}", str(value))]


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def image(noise: np.random.Generator, size: float) -> bytes:
    """A file of `size` bytes with the structure of a PNG and noise in place of pixels."""
    header = (64).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    pixels = noise.bytes(max(16, round(size) - _FRAME))
    return PNG_SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def make_source(folder: Path, images: int, shape: Shape) -> int:
    """Write the source in files of about FILE_BYTES; returns the total bytes of its images and conditions."""
    folder.mkdir(parents=True)
    noise, total = np.random.default_rng(0), 0
    of_file = max(1, round(FILE_BYTES / shape.unique_bytes))
    for start in range(0, images, of_file):
        rows = []
        for i in range(start, min(start + of_file, images)):
            row = {"id": f"{i:09d}", "image": image(noise, shape.kilobytes * 1000)}
            row["captions"] = [f"caption {k} of the image with the number {i}" for k in range(shape.captions)]
            row["conditions"] = [
                {"kind": f"kind{k}", "image": image(noise, shape.kilobytes * 1000 / 16)}
                for k in range(shape.conditions)
            ]
            total += len(row["image"]) + sum(len(c["image"]) for c in row["conditions"])
            rows.append(row)
        table = pa.Table.from_pylist(rows, SCHEMA)
        path = folder / f"part-{start:09d}.parquet"
        pq.write_table(table, path, row_group_size=max(500, of_file // 4), use_dictionary=False)
    return total


def query(shape: Shape) -> str:
    """The rows that every way but the copy writes."""
    sql = "SELECT id, image, caption{} FROM source LATERAL VIEW explode(captions) t AS caption"
    if not shape.conditions:
        return sql.format("")
    return sql.format(", c.kind, c.image AS condition") + " LATERAL VIEW explode(conditions) u AS c"
