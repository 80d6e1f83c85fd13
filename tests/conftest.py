"""The Spark session that all tests share, and how property tests are seeded."""

import multiprocessing
import multiprocessing.util
import tempfile
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import hypothesis
import pytest

import headrace.udfs.jar

# The same examples in every run; `--hypothesis-profile explore` looks for new ones.
hypothesis.settings.register_profile("seeded", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", max_examples=500, deadline=None)
hypothesis.settings.load_profile("seeded")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator["object"]:
    """A local session with Hive support, with its metastore and warehouse in its own folder."""
    from headrace.dataset.session import spark_session

    home = tmp_path_factory.mktemp("hive")
    session = spark_session(
        "tests",
        {
            "spark.master": "local[2]",
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.warehouse.dir": str(home / "warehouse"),
            "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={home}/metastore;create=true",
            "spark.driver.extraJavaOptions": f"-Dderby.stream.error.file={home}/derby.log",
        },
    )
    yield session
    session.stop()


@pytest.fixture(scope="session")
def bridge_jar() -> Path:
    return headrace.udfs.jar.build()


@pytest.fixture(scope="session")
def acme_jar(bridge_jar: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test functions in Java, compiled once, because a session takes only one jar of a given name."""
    return headrace.udfs.jar.build(
        Path(__file__).parent / "udfs" / "java", tmp_path_factory.mktemp("jars") / "acme.jar"
    )


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny dataset to train on."""
    from tests.tiny_runs import write_dataset

    path = tmp_path_factory.mktemp("dataset") / "tiny"
    write_dataset(path)
    return path


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Starts real processes from a server that has imported what training needs.

    The server's socket is in multiprocessing's temporary folder. A socket's path has at most 107 characters, so the
    folder is made in /tmp, however long TMPDIR is.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", "/tmp")
        multiprocessing.util.get_temp_dir()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["headrace.training.run", "headrace.jobs.train"])
    return context


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Keep the order of sums fixed, and do not compete for the machine's cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
