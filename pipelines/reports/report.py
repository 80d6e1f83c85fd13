"""`write_report`: one self-contained HTML file about a run or a dataset."""

from pathlib import Path

from jinja2 import Environment, PackageLoader

from headrace.errors import RecipeError
from headrace.files import write_text
from headrace.loading.table.plan import has_log
from headrace.loading.table.storage import open_filesystem
from headrace.recipe import load_recipe
from headrace.reports.dataset_card import DatasetCard, read_dataset
from headrace.reports.run_card import RunCard, read_run


def write_report(folder: str) -> Path | str:
    """Write the report of the run or dataset in `folder`, and return the path of the report.

    A run's report is `report.html` in its folder, a dataset's is `_headrace/report.html`. A dataset may be a URI; the
    report's path is then a URI too. Raises RecipeError if `folder` holds neither a run nor a dataset.
    """
    if "://" in folder:
        return _write_remote(folder)
    path = Path(folder)
    run, dataset = None, None
    if (path / "recipe.yaml").is_file():
        recipe = load_recipe(str(path / "recipe.yaml"))
        run = read_run(path, recipe)
        if recipe.data and has_log(recipe.data.path):
            dataset = read_dataset(recipe.data.path)
        target = path / "report.html"
    elif path.is_dir() and has_log(folder):
        dataset = read_dataset(folder)
        target = path / "_headrace" / "report.html"
    else:
        found = "neither recipe.yaml nor a Delta log" if path.is_dir() else "no such folder"
        raise RecipeError(f"{folder}: found {found}, expected a run folder or a dataset")
    target.parent.mkdir(exist_ok=True)
    write_text(target, _page(path.name, run, dataset))
    return target


def _write_remote(uri: str) -> str:
    """Write the report of a dataset in an object store to that store, and return its URI."""
    dataset = read_dataset(uri)
    filesystem, folder = open_filesystem(uri)
    with filesystem.open_output_stream(f"{folder}/_headrace/report.html") as file:
        file.write(_page(folder.rpartition("/")[2], None, dataset).encode())
    return f"{uri.rstrip('/')}/_headrace/report.html"


def _page(title: str, run: RunCard | None, dataset: DatasetCard | None) -> str:
    pages = Environment(loader=PackageLoader("headrace.reports", "."), autoescape=True, trim_blocks=True)
    return pages.get_template("report.html").render(title=title, run=run, dataset=dataset)
