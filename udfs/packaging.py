"""A wheel that holds the jar: the build step that setuptools calls (pyproject.toml)."""

from setuptools.command.build_py import build_py

from udfs.jar import build


class BuildWithJar(build_py):
    """Compile the Java functions before the package's files are gathered; an editable install has them beside it."""

    def run(self) -> None:
        """Build the jar, then do what build_py does."""
        if not self.editable_mode:
            build()
        super().run()
