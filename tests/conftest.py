"""The one Spark session that all tests share, and how property tests are seeded."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import headrace.udfs.jar

# The same examples in every run; `--hypothesis-profile explore` looks for new ones.
hypothesis.settings.register_profile("seeded", derandomize=True)
hypothesis.settings.register_profile("explore", max_examples=500, deadline=None)
hypothesis.settings.load_profile("seeded")


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator["object"]:
    """A local session with Hive support, its metastore and warehouse in a folder of its own."""
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
    """Test functions in Java, compiled once: a session takes one jar of a name."""
    return headrace.udfs.jar.build(
        Path(__file__).parent / "udfs" / "java", tmp_path_factory.mktemp("jars") / "acme.jar"
    )
