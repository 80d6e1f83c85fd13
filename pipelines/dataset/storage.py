"""Files of datasets and sources, at a local path or a URI, through Arrow's file systems."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyarrow import fs

from headrace import files as local
from headrace.errors import RecipeError

# Object stores have no folders to make, only names with slashes.
_WITH_FOLDERS = frozenset({"local", "hdfs"})


def absolute(root: str) -> str:
    """`root` as an absolute path or a URI: Spark's workers have other working directories."""
    return root if "://" in root else str(Path(root).absolute())


def filesystem(root: str, key: str = "dataset.output.path") -> tuple[fs.FileSystem, str]:
    """The file system of `root`, and the path of `root` in it.

    Raises RecipeError, which names the recipe's `key`, for a URI that Arrow cannot open.
    """
    if "://" not in root:
        return fs.LocalFileSystem(), absolute(root)
    try:
        files, folder = fs.FileSystem.from_uri(local.arrow_uri(root))
    except (ValueError, OSError) as error:  # ArrowInvalid is a ValueError
        first = str(error).splitlines()[0]
        raise RecipeError(f"{key}: found {root!r}, expected a path or a URI that Arrow opens: {first}") from None
    return files, folder.rstrip("/")


def make_folder(root: str) -> None:
    """Make the folder `root` if the file system has folders. Raises RecipeError if that fails."""
    files, folder = filesystem(root)
    if files.type_name not in _WITH_FOLDERS:
        return
    try:
        files.create_dir(folder, recursive=True)
    except OSError as error:
        raise RecipeError(f"dataset.output.path: found {root}, expected a folder that can be made: {error}") from None


@contextmanager
def folder_made(root: str) -> Iterator[None]:
    """Make the folder `root`. If the block fails, the folders that this made are removed again if they are empty."""
    files, folder = filesystem(root)
    missing: list[str] = []
    if files.type_name in _WITH_FOLDERS:
        missing = _missing(files, folder)
        make_folder(root)
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for path in missing:
                if files.get_file_info(fs.FileSelector(path)):
                    break
                files.delete_dir(path)
        raise


def _missing(files: fs.FileSystem, folder: str) -> list[str]:
    """`folder` and its parents that do not exist, `folder` first."""
    missing = []
    while folder and files.get_file_info(folder).type == fs.FileType.NotFound:
        missing.append(folder)
        folder = folder.rpartition("/")[0]
    return missing


def write_text(root: str, path: str, text: str) -> None:
    """Write `text` to `root`/`path`, making its folder if necessary; a local file is there whole or not at all."""
    files, folder = filesystem(root)
    make_folder(f"{root}/{path}".rpartition("/")[0])
    if isinstance(files, fs.LocalFileSystem):
        local.write_text(Path(folder) / path, text)
        return
    with files.open_output_stream(f"{folder}/{path}") as stream:
        stream.write(text.encode())
