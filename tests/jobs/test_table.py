"""Tables that jobs print: complete cells if stdout is not a terminal, and no markup in them."""

import pytest

from headrace.jobs.table import print_table, table

LONG = f"{'long ' * 30}[red]{'data' * 20}[/red]/[a]/x"


@pytest.mark.parametrize("columns", ["40", "200"])
def test_cells_are_as_wide_as_their_text(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    print_table(table([("name", LONG), ("[b]", "2")], ("", "value [low, high]")))
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.replace("┃", "│").split("│")[1:-1]] for line in lines]
    assert [row for row in cells if row] == [["", "value [low, high]"], ["name", LONG], ["[b]", "2"]]


def test_on_a_terminal_a_table_is_no_wider_than_that(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes stdout for a terminal
    print_table(table([("name", LONG)]))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 40
    second = "".join(line.split("│")[2].strip() for line in lines if "│" in line)
    assert second.replace(" ", "") == LONG.replace(" ", ""), "broken over lines, not cut off"
