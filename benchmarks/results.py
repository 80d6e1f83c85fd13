"""Fill docs/results.md: run benchmarks and put their output between the page's marks.

    python benchmarks/results.py                        # all benchmarks
    python benchmarks/results.py ddim unet              # some of them
    python benchmarks/results.py ddim -- --images 2000  # options of the benchmark after --

The page has `<!-- ddim -->` and `<!-- /ddim -->` around the figures of that section. Nothing between the marks is
written by hand.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path("docs/results.md")
COMMANDS = {
    "ddim": ["benchmarks/results_ddim.py"],
    "guidance": ["benchmarks/results_guidance.py"],
    "control": ["benchmarks/results_control.py"],
    "families": ["benchmarks/results_families.py"],
    "unet": ["benchmarks/unet.py"],
    "gaussians": ["benchmarks/gaussians.py"],
    "stacked": ["benchmarks/stacked.py"],
    "adversarial": ["benchmarks/adversarial.py"],
    "prior": ["benchmarks/prior.py", "--plot", "docs/prior.png"],
}


def main(argv: list[str]) -> int:
    place = argv.index("--") if "--" in argv else len(argv)
    names, options = argv[:place], argv[place + 1 :]
    unknown = [name for name in names if name not in COMMANDS]
    if unknown:
        print(f"results: found {unknown[0]!r}, expected among {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    status = 0
    for name in names or COMMANDS:
        done = subprocess.run([sys.executable, *COMMANDS[name], *options], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            print(f"results: {name} ended with status {done.returncode}; its section stays", file=sys.stderr)
            status = 1
            continue
        print(done.stdout)
        command = " ".join(["python", *COMMANDS[name], *options])
        write(name, f"    {command}\n\n{done.stdout.strip()}")
    return status


def write(name: str, text: str) -> None:
    """Put `text` between the marks of `name`. Raises ValueError if the page has none."""
    page = PAGE.read_text(encoding="utf-8")
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not marks.search(page):
        raise ValueError(f"{PAGE}: found no marks of {name}, expected <!-- {name} --> and <!-- /{name} -->")
    PAGE.write_text(marks.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
