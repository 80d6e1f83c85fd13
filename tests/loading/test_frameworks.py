"""The loader in the training loops of other packages, with the real packages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headrace.loading import ShardLoader

TableOf = Callable[[list[int]], Path]
COUNTS = [7, 5, 9, 3]


@pytest.fixture
def whole(table_of: TableOf) -> list[list[int]]:
    loader = ShardLoader(table_of(COUNTS), batch_size=4, epochs=2)
    return [batch["sample_id"].tolist() for batch in loader]


def test_stateful_data_loader_goes_on_where_it_was(table_of: TableOf, whole: list[list[int]]) -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    def loader() -> Any:
        return StatefulDataLoader(ShardLoader(table_of(COUNTS), batch_size=4, epochs=2), batch_size=None)

    first = loader()
    batches = iter(first)
    assert [batch["sample_id"].tolist() for batch in islice(batches, 5)] == whole[:5]
    state = first.state_dict()
    del batches
    second = loader()
    second.load_state_dict(state)
    assert [batch["sample_id"].tolist() for batch in second] == whole[5:]


def test_lightning_trains_on_every_batch_once_an_epoch(table_of: TableOf, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    seen: list[int] = []

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def training_step(self, batch: dict[str, Any], number: int) -> Tensor:
            seen.extend(batch["sample_id"].tolist())
            return self.weight * batch["sample_id"].float().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    loader = ShardLoader(table_of(COUNTS), batch_size=4)
    data = torch.utils.data.DataLoader(loader, batch_size=None)
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Module(), data)
    assert trainer.global_step == 18
    assert sorted(seen) == sorted(list(range(24)) * 3)
    assert seen[:24] != seen[24:48]


def test_accelerate_leaves_batches_whole(table_of: TableOf, whole: list[list[int]]) -> None:
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration

    accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(dispatch_batches=False))
    loader = ShardLoader(table_of(COUNTS), batch_size=4, epochs=2)
    prepared = accelerator.prepare(torch.utils.data.DataLoader(loader, batch_size=None))
    assert [batch["sample_id"].tolist() for batch in prepared] == whole


def test_numbers_go_to_tensorboard(table_of: TableOf, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    loader = ShardLoader(table_of(COUNTS), batch_size=4)
    with SummaryWriter(tmp_path) as writer:
        for step, _ in enumerate(loader, 1):
            loader.stats.write(writer, step)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.value for event in events.Scalars("loader/samples")] == [4, 8, 12, 16, 20, 24]
    assert {"loader/wait_seconds", "loader/queue_depth", "loader/bytes_read"} <= set(events.Tags()["scalars"])


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    import gc
    import threading

    yield
    gc.collect()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("headrace")]
