"""The session of a build: which versions of Spark it takes."""

import pytest

from headrace.dataset.session import check_version
from headrace.errors import RecipeError


@pytest.mark.parametrize("version", ["3.5.9", "3.0.0-preview"])
def test_an_old_spark_is_one_line(version: str) -> None:
    with pytest.raises(RecipeError, match=rf"^spark: found Spark {version}, expected 4\.0 to 4\.3$"):
        check_version(version)


def test_tested_versions_pass_and_newer_ones_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    for version in ("4.0.0", "4.0.5", "4.1.2", "4.3.0", "4.3.1-amzn-0"):
        check_version(version)
    assert capsys.readouterr().err == ""
    for version in ("4.4.0.dev1", "4.10.0", "5.0.0"):
        check_version(version)
        assert f"Spark {version} is newer than the tested versions, 4.0 to 4.3" in capsys.readouterr().err
