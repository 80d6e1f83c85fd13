"""Where a dataset lies: a local path or the URI of an object store, through Arrow's file systems."""

from pathlib import Path

from pyarrow import fs


def absolute(root: str) -> str:
    """`root` in a form that means the same in every process: workers have other working directories."""
    return root if "://" in root else str(Path(root).absolute())


def filesystem(root: str) -> tuple[fs.FileSystem, str]:
    """The file system of `root` and the path of `root` in it."""
    if "://" in root:
        return fs.FileSystem.from_uri(root)
    return fs.LocalFileSystem(), absolute(root)
