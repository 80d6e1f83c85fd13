"""A wheel that holds the jar: the build step that setuptools calls (setup.cfg).

setuptools loads this file alone, with neither the project nor what it depends on installed.
"""

import runpy
import sys
from pathlib import Path

from setuptools.command.build_py import build_py

ROOT = Path(__file__).parents[1]


class BuildWithJar(build_py):
    """Compile the Java functions before the package's files are gathered; an editable install has them beside it."""

    def run(self) -> None:
        """Build the jar, then do what build_py does."""
        if not self.editable_mode:
            sys.path.insert(0, str(ROOT))
            runpy.run_path(str(ROOT / "udfs" / "jar.py"))["build"]()
        super().run()
