"""`import headrace` by itself loads next to nothing. Its public names are loaded on first use."""

import json
import subprocess
import sys

import pytest

import headrace

HEAVY = {"cv2", "deltalake", "numpy", "pandas", "py4j", "pyarrow", "pydantic", "pyspark", "torch", "yaml"}
NAMES = {
    "ShardLoader": "headrace.loading.loader",
    "Mixture": "headrace.loading.mixture",
    "flatten": "headrace.dataset.flatten",
}
ROOMS = {"activation", "udfs"}


def loaded_after(code: str) -> set[str]:
    """The modules that a separate process has loaded after `code`."""
    command = [sys.executable, "-c", f"{code}\nimport json, sys\njson.dump([*sys.modules], sys.stdout)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {*json.loads(done.stdout)}


def test_the_import_alone_loads_no_other_package() -> None:
    loaded = loaded_after("import headrace; headrace.__version__")
    assert "headrace" in loaded
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert not {name for name in loaded if name.startswith("headrace.")}


def test_the_loader_needs_no_spark_and_activation_no_loader() -> None:
    loaded = loaded_after("import headrace; headrace.ShardLoader; headrace.Mixture")
    assert "headrace.loading.loader" in loaded
    assert not loaded & {"pyspark", "py4j"}
    loaded = loaded_after("import headrace; headrace.activation.apply")
    assert "headrace.activation" in loaded
    assert not loaded & {"pyspark", "headrace.loading"}


def test_there_is_a_version() -> None:
    assert headrace.__version__.count(".") == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_that_of_its_room(name: str) -> None:
    assert getattr(headrace, name) is getattr(sys.modules[NAMES[name]], name)


@pytest.mark.parametrize("name", sorted(ROOMS))
def test_a_room_is_its_module(name: str) -> None:
    assert getattr(headrace, name) is sys.modules[f"headrace.{name}"]


def test_star_import_and_dir_list_the_public_names() -> None:
    assert {*headrace.__all__} == {"__version__", *NAMES, *ROOMS}
    assert {*headrace.__all__} <= {*dir(headrace)}


def test_dir_lists_names_before_they_are_loaded() -> None:
    code = "import headrace\nassert {'ShardLoader', 'Mixture', 'flatten', 'activation', 'udfs'} <= {*dir(headrace)}"
    assert "headrace.loading" not in loaded_after(code)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'headrace' has no attribute 'shard_loader'"):
        _ = headrace.shard_loader
    assert not hasattr(headrace, "pipelines")
