"""One task of the write stage in its own process, on made-up rows. Prints how much memory it took.

python -m tests.dataset.task FOLDER MEGABYTES_OF_MEDIA SAMPLES
"""

import resource
import sys
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from benchmarks.build_source import image
from headrace.dataset.query.placement import Placement
from headrace.dataset.write.shards import Layout, write_stage

BATCH_IMAGES = 40
IMAGE_BYTES = 100_000
HANDLE = pa.struct([("__row", pa.int64()), ("__order", pa.int64()), ("__slot", pa.int32()), ("__element", pa.int32())])
SCHEMA = pa.schema(
    [
        *(("__shard", pa.int32()), ("__order", pa.int64()), ("__row", pa.int64()), ("__hash", pa.int64())),
        *(("__key", pa.string()), ("m0", pa.binary()), ("s0", HANDLE), ("s1", pa.string())),
    ]
)


def batches(images: int, samples: int) -> Iterator[pa.RecordBatch]:
    """Media in batches, as Spark sends them, then the samples of each image."""
    noise = np.random.default_rng(0)
    for start in range(0, images, BATCH_IMAGES):
        rows = range(start, min(start + BATCH_IMAGES, images))
        common = {
            "__shard": [0] * len(rows),
            "__order": list(rows),
            "__row": list(rows),
            "__key": [str(r) for r in rows],
        }
        yield _batch({**common, "m0": [image(noise, IMAGE_BYTES) for _ in rows]}, len(rows))
    for start in range(0, samples, 10_000):
        numbers = range(start, min(start + 10_000, samples))
        rows = [n % images for n in numbers]
        handles = [{"__row": r, "__order": r, "__slot": 0, "__element": 0} for r in rows]
        common = {"__shard": [0] * len(rows), "__order": rows, "__row": rows, "__hash": list(numbers)}
        yield _batch({**common, "s0": handles, "s1": [f"caption {n}" for n in numbers]}, len(rows))


def _batch(columns: dict, rows: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({f.name: columns.get(f.name, [None] * rows) for f in SCHEMA}, SCHEMA)


def peak_megabytes() -> float:
    """The most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main(folder: str, megabytes: int, samples: int) -> None:
    """Run the task."""
    layout = Layout(
        root=folder,
        build="b",
        columns=("image", "caption"),
        causes=(None, None),
        media=("image",),
        handles=("image",),
        images=(("image",),),
        on_bad_row="fail",
        max_pixels=None,
        placement=Placement((1,)),
    )
    stage = write_stage(layout)
    list(stage(batches(10, 20)))
    before = peak_megabytes()
    (report,) = list(stage(batches(megabytes * 1_000_000 // IMAGE_BYTES, samples)))
    print(report.to_pylist()[0]["rows"], peak_megabytes() - before)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
