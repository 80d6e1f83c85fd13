"""Tables on stdout. Paths, versions and other things that people copy do not go into tables: print them as lines."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

UNLIMITED = 100_000
"""columns: wider than any table"""


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> Table:
    """A table of plain cells: `[brackets]` in them are not treated as markup."""
    made = Table(show_header=bool(header))
    for name in header:
        made.add_column(_plain(name))
    for row in rows:
        made.add_row(*map(_plain, row))
    return made


def _plain(text: str) -> Text:
    """`text` without markup, broken over lines rather than cut off in a narrow terminal."""
    return Text(text, overflow="fold")


def print_table(table: Table) -> None:
    """Print `table` on stdout: no wider than a terminal, and elsewhere as wide as its cells need."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=UNLIMITED)
    console.print(table)
