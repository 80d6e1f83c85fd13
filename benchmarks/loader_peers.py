"""Other loaders on the benchmark's data, each used as its documentation advises and decoding with the same functions.

A peer is a function (folder, kind, workers, batch size) → batches. A process that is not measured writes the peer's
format beside the data beforehand.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

Sample = dict[str, Any]
SIZE: int | None = None
"""side in pixels that images are scaled to; None keeps the stored size"""


def decode(sample: Sample) -> Sample:
    """A row as tensors, decoded with the functions that headrace uses."""
    if "pixels" in sample:
        pixels = torch.frombuffer(bytearray(sample["pixels"]), dtype=torch.uint8).view(3, 32, 32)
        return {"pixels": pixels, "label": sample["label"], "caption": sample["caption"]}
    image = simplejpeg.decode_jpeg(sample["image"], "RGB")
    edges = cv2.imdecode(np.frombuffer(sample["condition"], np.uint8), cv2.IMREAD_GRAYSCALE)
    if SIZE is not None:
        image, edges = (cv2.resize(one, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for one in (image, edges))
    planes = np.empty((3, *image.shape[:2]), np.uint8)
    cv2.split(image, [*planes])
    return {
        "image": torch.from_numpy(planes),
        "condition": torch.from_numpy(edges)[None],
        "sample_id": sample["sample_id"],
        "caption": sample["caption"],
    }


def collate(samples: list[Sample]) -> Sample:
    """Stack tensors, make a tensor of numbers and a list of strings."""
    batch: Sample = {}
    for key, first in samples[0].items():
        values = [sample[key] for sample in samples]
        if isinstance(first, torch.Tensor):
            batch[key] = torch.stack(values)
        else:
            batch[key] = torch.tensor(values) if isinstance(first, int) else values
    return batch


def shards(folder: Path, kind: str) -> list[Path]:
    """The Parquet files of a job."""
    return sorted((folder / kind).glob("*.parquet"))


def rows(folder: Path, kind: str) -> Iterator[Sample]:
    """Every row, to write it in another format."""
    for path in shards(folder, kind):
        yield from pq.read_table(path).to_pylist()


def limit(folder: Path, kind: str, workers: int, batch: int) -> Iterator[Sample]:
    """No loader: `workers` threads decode bytes in memory into batch memory. For raw, gather shuffled row groups."""
    if kind == "raw":
        yield from _limit_raw(folder, batch)
        return
    table = pa.concat_tables(pq.read_table(path) for path in shards(folder, kind)[:8])
    images = [np.frombuffer(data, np.uint8) for data in table.column("image").to_pylist()]
    edges = [np.frombuffer(data, np.uint8) for data in table.column("condition").to_pylist()]
    total = sum(pq.read_metadata(path).num_rows for path in shards(folder, kind))
    side = SIZE or 256
    room_NCHW, edges_NCHW = np.empty((batch, 3, side, side), np.uint8), np.empty((batch, 1, side, side), np.uint8)

    def work(part: range) -> None:
        for place in part:
            number = random.randrange(len(images))
            image = simplejpeg.decode_jpeg(images[number], "RGB", min_height=side, min_width=side)
            outline = cv2.imdecode(edges[number], cv2.IMREAD_GRAYSCALE)
            if SIZE is not None:
                image, outline = (cv2.resize(one, (side, side), interpolation=3) for one in (image, outline))
            cv2.split(image, [*room_NCHW[place]])
            edges_NCHW[place, 0] = outline

    threads = max(1, workers)
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(total // batch):
            list(pool.map(work, [range(start, batch, 2 * threads) for start in range(2 * threads)]))
            yield {}


def _limit_raw(folder: Path, batch: int) -> Iterator[Sample]:
    room = np.empty((batch, 3072), np.uint8)
    for path in shards(folder, "raw"):
        table = pq.read_table(path, use_threads=False)
        pixels = np.frombuffer(table.column("pixels").chunk(0).buffers()[1], np.uint8).reshape(-1, 3072)
        captions, labels = table.column("caption").to_numpy(), table.column("label").to_numpy()
        places = np.random.permutation(len(table))
        for start in range(0, len(table), batch):
            some = places[start : start + batch]
            np.take(pixels, some, axis=0, out=room[: len(some)], mode="clip")
            yield {"caption": captions[some].tolist(), "label": labels[some]}


class ArrowRows(Dataset[Sample]):
    """Rows of a memory-mapped Arrow file."""

    def __init__(self, path: Path) -> None:
        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, place: int) -> Sample:
        return decode({name: self._table.column(name)[place].as_py() for name in self._table.column_names})


class RowGroups(IterableDataset[Sample]):
    """Row groups in random order, the rows of each in random order."""

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths

    def __iter__(self) -> Iterator[Sample]:
        info = torch.utils.data.get_worker_info()
        mine = self._paths[info.id :: info.num_workers] if info else self._paths
        for path in random.sample(mine, len(mine)):
            for sample in random.sample(pq.read_table(path).to_pylist(), pq.read_metadata(path).num_rows):
                yield decode(sample)


def loader(data: Any, workers: int, batch: int, **settings: Any) -> Iterator[Sample]:
    """torch's DataLoader with `workers` processes."""
    return iter(DataLoader(data, batch_size=batch, num_workers=workers, collate_fn=collate, **settings))


def dataloader_arrow(folder: Path, kind: str, workers: int, batch: int) -> Iterator[Sample]:
    """torch's DataLoader over a memory-mapped Arrow file."""
    path = prepared(folder, kind, "arrow")
    return loader(ArrowRows(path / "data.arrow"), workers, batch, shuffle=True)


def dataloader_parquet(folder: Path, kind: str, workers: int, batch: int) -> Iterator[Sample]:
    """torch's DataLoader over Parquet row groups."""
    return loader(RowGroups(shards(folder, kind)), workers, batch)


def hf_datasets(folder: Path, kind: str, workers: int, batch: int) -> Iterator[Sample]:
    """HuggingFace datasets, map-style, from its Arrow cache."""
    import datasets

    data = datasets.load_from_disk(str(prepared(folder, kind, "datasets")))
    return loader(data.with_transform(_decode_columns), workers, batch, shuffle=True)


def _decode_columns(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    decoded = [decode(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    return {key: [sample[key] for sample in decoded] for key in decoded[0]}


def webdataset(folder: Path, kind: str, workers: int, batch: int) -> Iterator[Sample]:
    """WebDataset over tar files, with a shuffle buffer of 1,000."""
    import webdataset as wds

    urls = [str(path) for path in sorted(prepared(folder, kind, "webdataset").glob("*.tar"))]
    data = (
        wds.WebDataset(urls, shardshuffle=len(urls)).shuffle(1000).map(_from_tar).batched(batch, collation_fn=collate)
    )
    return iter(wds.WebLoader(data, batch_size=None, num_workers=workers))


def _from_tar(sample: Sample) -> Sample:
    import json

    return decode({**json.loads(sample["json"]), **{key: sample[key] for key in sample if key in _BYTES}})


_BYTES = ("image", "condition", "pixels")


def litdata(folder: Path, kind: str, workers: int, batch: int) -> Iterator[Sample]:
    """LitData's StreamingDataset and StreamingDataLoader."""
    import litdata as ld

    data = ld.StreamingDataset(str(prepared(folder, kind, "litdata")), shuffle=True, transform=decode)
    return iter(ld.StreamingDataLoader(data, batch_size=batch, num_workers=workers, collate_fn=collate))


def without_torchvision() -> None:
    """Make MosaicML Streaming importable: it imports torchvision, which fails beside the CPU build of torch."""
    names = {"": {}, ".datasets": {"VisionDataset": object}, ".transforms": {}}
    names[".transforms.functional"] = {"to_tensor": None}
    for name, values in names.items():
        module = ModuleType(f"torchvision{name}")
        module.__spec__ = ModuleSpec(module.__name__, None)
        module.__dict__.update(values)
        sys.modules[module.__name__] = module


def streaming(folder: Path, kind: str, workers: int, batch: int, predownload: int | None = None) -> Iterator[Sample]:
    """MosaicML Streaming over MDS shards."""
    without_torchvision()
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()

    class Decoded(StreamingDataset):
        def __getitem__(self, place: Any) -> Any:
            return decode(super().__getitem__(place))

    path = str(prepared(folder, kind, "streaming"))
    data = Decoded(local=path, shuffle=True, batch_size=batch, predownload=predownload)
    return loader(data, workers, batch)


def petastorm(folder: Path, kind: str, workers: int, batch: int) -> Iterator[Sample]:
    """Petastorm's row-group reader, in threads, with each row group shuffled."""
    from petastorm import make_batch_reader

    path = f"file://{folder / kind}"
    with make_batch_reader(path, reader_pool_type="thread", workers_count=max(1, workers), num_epochs=1) as reader:
        samples: list[Sample] = []
        for group in reader:
            columns = group._asdict()
            for place in np.random.permutation(len(next(iter(columns.values())))):
                row = {name: values[place] for name, values in columns.items()}
                samples.append(decode({k: int(v) if isinstance(v, np.integer) else v for k, v in row.items()}))
                if len(samples) == batch:
                    yield collate(samples)
                    samples = []


def spdl(folder: Path, kind: str, workers: int, batch: int) -> Iterator[Sample]:
    """SPDL's pipeline of threads over a memory-mapped Arrow file."""
    from spdl.pipeline import PipelineBuilder

    data = ArrowRows(prepared(folder, kind, "arrow") / "data.arrow")
    threads = max(1, workers)
    pipeline = (
        PipelineBuilder()
        .add_source(random.sample(range(len(data)), len(data)))
        .pipe(data.__getitem__, concurrency=threads)
        .aggregate(batch)
        .pipe(collate)
        .add_sink(4)
        .build(num_threads=threads)
    )
    with pipeline.auto_stop():
        yield from pipeline


def write_arrow(folder: Path, kind: str, path: Path) -> None:
    """One Arrow IPC file."""
    table = pa.concat_tables(pq.read_table(shard) for shard in shards(folder, kind))
    with pa.ipc.new_file(str(path / "data.arrow"), table.schema) as file:
        file.write_table(table)


def write_datasets(folder: Path, kind: str, path: Path) -> None:
    """A HuggingFace data set on disk."""
    import datasets

    datasets.Dataset.from_parquet([str(shard) for shard in shards(folder, kind)]).save_to_disk(str(path))


def write_webdataset(folder: Path, kind: str, path: Path) -> None:
    """Tar files of 1,000 samples."""
    import webdataset as wds

    with wds.ShardWriter(f"{path}/%05d.tar", maxcount=1000, verbose=0) as writer:
        for number, row in enumerate(rows(folder, kind)):
            encoded = {key: row.pop(key) for key in _BYTES if key in row}
            writer.write({"__key__": f"{number:08d}", "json": row, **encoded})


def write_litdata(folder: Path, kind: str, path: Path) -> None:
    """LitData's chunks of 64 MB."""
    import litdata as ld

    ld.optimize(
        fn=partial(_row_of, folder, kind),
        inputs=list(range(sum(pq.read_metadata(shard).num_rows for shard in shards(folder, kind)))),
        output_dir=str(path),
        chunk_bytes="64MB",
        num_workers=1,
        verbose=False,
    )


_open: list[Sample] = []


def _row_of(folder: Path, kind: str, number: int) -> Sample:
    if not _open:
        _open.extend(rows(folder, kind))
    return _open[number]


def write_streaming(folder: Path, kind: str, path: Path) -> None:
    """MDS shards."""
    without_torchvision()
    from streaming import MDSWriter

    types = {str: "str", int: "int", bytes: "bytes"}
    first = next(rows(folder, kind))
    columns = {key: types[type(value)] for key, value in first.items()}
    with MDSWriter(out=str(path), columns=columns) as writer:
        for row in rows(folder, kind):
            writer.write(row)


def prepared(folder: Path, kind: str, form: str) -> Path:
    """The path of the data in another format, which the benchmark writes beforehand."""
    return folder / f"{kind}-{form}"


PEERS: dict[str, Callable[..., Iterator[Sample]]] = {
    "limit": limit,
    "SPDL": spdl,
    "HuggingFace datasets": hf_datasets,
    "DataLoader over Parquet": dataloader_parquet,
    "DataLoader over Arrow": dataloader_arrow,
    "Streaming": streaming,
    "Streaming, predownload 20,000": partial(streaming, predownload=20_000),
    "LitData": litdata,
    "WebDataset": webdataset,
    "Petastorm": petastorm,
}

FORMATS = {
    "SPDL": "arrow",
    "HuggingFace datasets": "datasets",
    "DataLoader over Arrow": "arrow",
    "Streaming": "streaming",
    "Streaming, predownload 20,000": "streaming",
    "LitData": "litdata",
    "WebDataset": "webdataset",
}

if __name__ == "__main__":
    root, job, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    hidden = root / f".{job}-{name}"
    hidden.mkdir()
    globals()[f"write_{name}"](root, job, hidden)
    hidden.rename(root / f"{job}-{name}")
