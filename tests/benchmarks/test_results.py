"""docs/results.md gets what benchmarks print, and nothing else on the page changes."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("results", ROOT / "benchmarks" / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = tmp_path / "results.md"
    page.write_text((ROOT / "docs" / "results.md").read_text())
    monkeypatch.setattr(module, "PAGE", page)
    return module


def test_a_section_is_replaced_and_the_rest_stays(results: ModuleType) -> None:
    before = results.PAGE.read_text()
    results.write("ddim", "a \\1 table")
    once = results.PAGE.read_text()
    assert "<!-- ddim -->\n\na \\1 table\n\n<!-- /ddim -->" in once
    results.write("ddim", "another")
    results.write("ddim", "a \\1 table")
    assert results.PAGE.read_text() == once
    outside = [text.split("<!-- ddim -->")[0] + text.split("<!-- /ddim -->")[1] for text in (before, once)]
    assert outside[0] == outside[1]


def test_the_page_has_a_place_for_every_benchmark(results: ModuleType) -> None:
    for name, (script, *_) in results.COMMANDS.items():
        assert (ROOT / script).is_file()
        results.write(name, "figures")


def test_an_unknown_section(results: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert results.main(["dim"]) == 2
    assert "found 'dim', expected among ddim" in capsys.readouterr().err
    with pytest.raises(ValueError, match="found no marks of dim"):
        results.write("dim", "figures")
