"""Run checkpoints are complete or absent, damage is found, and the right ones are kept."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from headrace import files
from headrace.errors import DataError
from headrace.runs import checkpoints as checkpoints_module
from headrace.runs.checkpoints import Checkpoint, Checkpoints


def tensors(value: float) -> dict[str, dict[str, Tensor]]:
    return {
        "model": {"weight": torch.full((4, 4), value), "count": torch.tensor(3)},
        "model.ema": {"weight": torch.ones(2)},
    }


def saved(folder: Path, *steps: int, keep: int = 10) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        checkpoints.save(step, tensors(step), {"step": step})
    checkpoints.wait()
    return checkpoints


def steps_of(checkpoints: Checkpoints) -> list[int]:
    return [checkpoint.step for checkpoint in checkpoints.all()]


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    newest = saved(tmp_path / "new" / "folder", 5, 7).newest()
    assert newest is not None
    assert newest.step == 7
    assert newest.state() == {"step": 7}
    assert torch.equal(newest.tensors("model")["weight"], torch.full((4, 4), 7.0))
    assert newest.tensors("model")["count"].item() == 3
    assert not [path for path in newest.path.iterdir() if path.suffix not in {".json", ".safetensors"}]


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    assert Checkpoints(tmp_path).newest() is None
    assert Checkpoints(tmp_path / "missing").newest() is None


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


DAMAGE = {
    "a flipped bit": lambda path: _flip(path / "model.safetensors"),
    "a shorter file": lambda path: (path / "state.json").write_text("{"),
    "a missing file": lambda path: (path / "model.ema.safetensors").unlink(),
    "no checksums": lambda path: (path / "checksums.json").unlink(),
    "checksums cut off": lambda path: (path / "checksums.json").write_text('{"model'),
    "checksums of another kind": lambda path: (path / "checksums.json").write_text("[1]"),
    "an empty folder": lambda path: (shutil.rmtree(path), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda name: name.replace(" ", "-"))
def test_a_damaged_one_is_passed_over(tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    DAMAGE[damage](checkpoints.all()[-1].path)
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 1
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert "step-00000002" in warning


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that have been hashed, in order."""
    found: list[Path] = []

    def sha256(path: Path) -> str:
        found.append(path)
        return files.sha256(path)

    monkeypatch.setattr(checkpoints_module, "sha256", sha256)
    return found


def test_a_reader_of_one_group_hashes_its_bytes_alone(tmp_path: Path, hashed: list[Path]) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    hashed.clear()
    newest = checkpoints.newest("model.ema")
    assert newest is not None
    assert hashed == [newest.path / "model.ema.safetensors"]
    assert set(newest.tensors("model.ema")) == {"weight"}
    assert len(hashed) == 1
    assert [checkpoint.step for checkpoint in checkpoints.all()] == [1, 2]
    assert len(hashed) == 1  # reading a step number needs no hashing
    hashed.clear()
    checkpoints.newest()
    names = {"model.safetensors", "model.ema.safetensors", "state.json"}
    assert {path.name for path in hashed} == names
    assert len(hashed) == len(names)


@pytest.mark.parametrize("damage", ["a flipped bit", "a shorter file"])
def test_a_group_is_whole_whatever_became_of_the_others(tmp_path: Path, damage: str) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    DAMAGE[damage](checkpoints.all()[-1].path)
    averages, everything = checkpoints.newest("model.ema"), checkpoints.newest()
    assert averages is not None
    assert everything is not None
    assert (averages.step, everything.step) == (2, 1)


DAMAGE_TO_AVERAGES = {
    "a flipped bit": lambda path: _flip(path / "model.ema.safetensors"),
    "a missing file": lambda path: (path / "model.ema.safetensors").unlink(),
    "a folder in its place": lambda path: ((path / "model.ema").mkdir(), (path / "model.ema" / "x").touch()),
    "no checksums": lambda path: (path / "checksums.json").unlink(),
    "checksums without it": lambda path: (path / "checksums.json").write_text('{"model.safetensors": ""}'),
}


@pytest.mark.parametrize("damage", DAMAGE_TO_AVERAGES, ids=lambda name: name.replace(" ", "-"))
def test_a_reader_falls_back_to_an_earlier_checkpoint_of_its_group(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    DAMAGE_TO_AVERAGES[damage](checkpoints.all()[-1].path)
    newest = checkpoints.newest("model.ema")
    assert newest is not None
    assert newest.step == 1
    assert "step-00000002" in capsys.readouterr().err
    raw = checkpoints.newest("model") if damage in ("a flipped bit", "a missing file") else newest
    assert raw is not None
    assert raw.step == (1 if raw is newest else 2)


def test_a_group_that_no_checkpoint_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only damaged checkpoints"):
        saved(tmp_path, 1).newest("generator.ema")


def test_checksums_that_name_no_file_are_damage(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, 1).all()[0]
    (checkpoint.path / "checksums.json").write_text("{}")
    assert checkpoint.damage() is not None


def test_all_damaged_is_an_error_and_not_a_fresh_start(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    for checkpoint in checkpoints.all():
        (checkpoint.path / "state.json").unlink()
    with pytest.raises(DataError, match="only damaged checkpoints"):
        checkpoints.newest()


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    assert steps_of(saved(tmp_path, 1, 2, 3, 10, 200, keep=2)) == [10, 200]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("losses", "kept"),
    [
        ([3.0, 1.0, 2.0, 4.0, 5.0], [2, 4, 5]),
        ([5.0, 4.0, 3.0, 2.0, 1.0], [4, 5]),
        ([1.0, None, 2.0, None, 3.0], [1, 4, 5]),
    ],
)
def test_the_best_one_is_kept_too(tmp_path: Path, losses: list[float | None], kept: list[int]) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2, best=True)
    for step, loss in enumerate(losses, start=1):
        checkpoints.save(step, tensors(step), {"metric": loss})
    checkpoints.wait()
    assert steps_of(checkpoints) == kept


def test_a_damaged_best_one_does_not_take_the_place_of_good_ones(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1, best=True)
    for step, loss in ((1, 0.1), (2, 0.5)):
        checkpoints.save(step, tensors(step), {"metric": loss})
    checkpoints.wait()
    (checkpoints.all()[0].path / "state.json").write_text("{")
    checkpoints.save(3, tensors(3), {"metric": 0.7})
    checkpoints.wait()
    assert steps_of(checkpoints) == [2, 3]


def test_a_damaged_newer_one_does_not_push_out_the_one_just_saved(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 10, 20, 30, keep=1)
    (checkpoints.all()[0].path / "state.json").unlink()
    checkpoints.save(15, tensors(15), {})
    checkpoints.wait()
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 15
    checkpoints.save(30, tensors(0), {})
    checkpoints.wait()
    assert steps_of(checkpoints) == [30]
    assert Checkpoint(tmp_path / "step-00000030").damage() is None


def test_half_written_and_half_removed_ones_are_cleaned(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1)
    for name in (".step-00000002.tmp", ".step-00000000.removed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"half")
    assert steps_of(checkpoints) == [1]
    checkpoints.clean()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_failed_save_is_raised_and_leaves_the_others(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, keep=1)
    checkpoints.save(2, tensors(2), {"unwritable": {1, 2}})
    with pytest.raises(TypeError, match="set is not JSON serializable"):
        checkpoints.wait()
    assert steps_of(checkpoints) == [1]


def test_a_checkpoint_holds_no_code(tmp_path: Path) -> None:
    """Every file is JSON or safetensors: a JSON header, then numbers."""
    files = sorted(saved(tmp_path, 1).all()[0].path.iterdir())
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in files:
        data = path.read_bytes()
        header = data if path.suffix == ".json" else data[8 : 8 + int.from_bytes(data[:8], "little")]
        json.loads(header)


def test_a_file_that_cannot_be_read_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = saved(tmp_path, 1, 2)

    def refused(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(checkpoints_module, "sha256", refused)
    with pytest.raises(DataError, match=r"model\.ema\.safetensors: found Permission denied, expected a readable file"):
        checkpoints.newest("model.ema")


def test_hidden_files_of_a_desktop_cost_no_steps(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1, 2)
    (tmp_path / "step-00000002" / ".DS_Store").write_bytes(b"not ours")
    newest = checkpoints.newest()
    assert newest is not None
    assert newest.step == 2


def test_a_checkpoint_can_be_read_by_whoever_may_read_other_files(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in (tmp_path / "step-00000001").iterdir()}
    assert modes == {(tmp_path / "other").stat().st_mode}
