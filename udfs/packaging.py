"""The build step of setuptools (setup.cfg) that puts the jar into the wheel.

setuptools loads this file alone, with neither the project nor what it depends on installed.
"""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from setuptools import find_packages
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parents[1]


class BuildWithJar(build_py):
    """Compile the Java functions before the package's files are collected, except in an editable install."""

    def finalize_options(self) -> None:
        """Add the packages inside of those that setup.cfg names."""
        inside = [
            f"{package}.{name}"
            for package, folder in self.distribution.package_dir.items()
            for name in find_packages(str(ROOT / folder))
        ]
        self.distribution.packages = sorted({*self.distribution.packages, *inside})
        super().finalize_options()

    def run(self) -> None:
        """Build the jar, then do what build_py does."""
        if not self.editable_mode:
            _name_the_folders()
            from headrace.udfs import jar

            jar.build()
        super().run()


def _name_the_folders() -> None:
    """Let this process import the clone's folders by their import names, as an installed headrace would."""
    for name, folder in (("headrace", "pipelines"), ("headrace.udfs", "udfs")):
        spec = spec_from_file_location(
            name, ROOT / folder / "__init__.py", submodule_search_locations=[str(ROOT / folder)]
        )
        assert spec is not None
        sys.modules[name] = module_from_spec(spec)
