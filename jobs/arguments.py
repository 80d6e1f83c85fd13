"""How every job reads its arguments: argparse, with errors that are one line in the project's form."""

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from headrace.errors import RecipeError

STATUSES = """exit status:
  0    done
  1    failed
  2    the recipe or an argument is wrong
  3    the input data is unusable
  130  stopped by Ctrl-C
  143  stopped by SIGTERM (a training run is saved first)"""
FORMS = {
    r"the following arguments are required: (\S+?)(,.*)?$": r"argument \1: found nothing, expected {usage}",
    r"(.*): expected one argument$": r"\1: found nothing, expected a value",
    r"(.*): ignored explicit argument (.*)$": r"\1: found \2, expected no value",
    r"(.*): not allowed with argument (\S+)$": r"\1: found it together with \2, expected one of them",
}
"""argparse's messages, and what the project says instead"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are RecipeErrors, and whose options may stand before or after the positional arguments."""

    def __init__(self, prog: str, description: str, examples: Sequence[str] = ()) -> None:
        """`examples` are whole command lines, shown by --help."""
        shown = ["examples:", *(f"  {example}" for example in examples), ""] if examples else []
        super().__init__(
            prog=prog,
            description=description,
            epilog="\n".join([*shown, STATUSES]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.color = False  # Python 3.14 colours the usage, which errors quote
        self._bare: dict[str, str] = {}

    def recipe(self, overrides: str = "a key of the recipe and its value in YAML, as in training.steps=200") -> None:
        """Add the arguments RECIPE and [key=value …]."""
        self.add_argument("recipe", metavar="RECIPE", help="the path of a recipe")
        self.overrides(overrides)

    def overrides(self, meaning: str) -> None:
        """Add the arguments [key=value …]; `meaning` says whose keys they are."""
        self.add_argument("overrides", metavar="key=value", nargs="*", default=[], help=meaning)

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The arguments in `argv`. Raises RecipeError if they are wrong, SystemExit after --help or --version."""
        given = [f"{argument}={self._bare[argument]}" if argument in self._bare else argument for argument in argv]
        arguments, unknown = self.parse_known_intermixed_args(given)
        if unknown:
            raise RecipeError(f"argument: found {unknown[0]!r}, expected {self._usage()}")
        return arguments

    def format_help(self) -> str:
        return _closed_up(super().format_help())

    def error(self, message: str) -> NoReturn:
        for pattern, form in FORMS.items():
            message = re.sub(pattern, form, message)
        raise RecipeError(message.replace("{usage}", self._usage()))

    def _usage(self) -> str:
        """The usage on one line, without the word."""
        return _closed_up(" ".join(self.format_usage().split()).removeprefix("usage: "))

    def value_after_equals(
        self, group: Any, option: str, metavar: str, bare: str, kind: Callable[[str], Any], meaning: str
    ) -> None:
        """Add `option` or `option=VALUE` to `group`, a group of this parser; `bare` is the value it has without one.

        The value must follow an equals sign, for a word after a bare option is the next argument.
        """
        self._bare[option] = bare
        group.add_argument(option, metavar=f"={metavar}", nargs="?", type=kind, help=meaning)


def positive(text: str) -> int:
    """A whole number from 1, as the type of an argument."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 1")
    return int(text)


def _closed_up(text: str) -> str:
    """argparse's `--option [=VALUE]` as it is typed, `--option[=VALUE]`, with the columns of --help kept aligned."""
    return re.sub(r"\s+\[=", "[=", re.sub(r" \[=(\w+)\](?=  )", r"[=\1] ", text))
