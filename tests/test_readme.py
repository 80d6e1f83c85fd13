"""README, CONTRIBUTING and the guides name only what exists: paths, modules, links, commands, recipes and their keys.

The comments at the top of the recipes must meet the same rule, because they list the recipes' commands.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.recipe import load_recipe
from headrace.recipe.evaluation import Evaluation
from headrace.recipe.training import Sampling

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
TEXTS = [*PAGES, *RECIPES]
FOLDERS = ("jobs", "pipelines", "udfs", "recipes", "tests", "docs", "benchmarks", "examples", r"\.ci")
PATH = re.compile(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./*-]*")
DOTTED = re.compile(r"(?<![\w/.-])headrace(?:\.\w+)+")
TARGETS = re.findall(r"^    ([a-z-]+)\)", (ROOT / "run").read_text(encoding="utf-8"), re.MULTILINE)
PYTHON = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("pipelines/**/*.py"))


def named(paths: list[Path]) -> Any:
    return pytest.mark.parametrize("page", paths, ids=lambda path: str(path.relative_to(ROOT)))


def inline(text: str) -> list[str]:
    """The pieces of inline code, without fenced blocks."""
    return re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def commands(page: Path) -> Iterator[list[str]]:
    """The commands of a page's code blocks, or of a recipe's comments, split into words as a shell does."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".yaml":
        lines = [line.removeprefix("#") for line in text.splitlines() if line.startswith("#")]
    else:
        fenced = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
        lines = [*fenced, *(line for line in text.splitlines() if line.startswith("    "))]
    for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        if re.match(r" *(headrace|python|torchrun|spark-submit|make|\./run) ", line):
            yield shlex.split(re.sub(r"\$\(.*?\)\)?", "folder", line), comments=True)


@named(TEXTS)
def test_paths_exist(page: Path) -> None:
    found = {path.rstrip(".") for path in PATH.findall(page.read_text(encoding="utf-8"))}
    assert [path for path in sorted(found) if not any(ROOT.glob(path.rstrip("/")))] == []


@named(PAGES)
def test_source_files_are_named_from_the_root(page: Path) -> None:
    """`query.py` says nothing about where the file is."""
    bare = [code for code in inline(page.read_text(encoding="utf-8")) if re.fullmatch(r"\w+\.(py|java)", code)]
    assert bare == []


def resolves(name: str) -> bool:
    """Whether `name` is a module or something in one, a Java class or method, or a property that the code writes."""
    parts = name.split(".")[1:]
    for length in range(len(parts), 0, -1):
        java = ROOT.joinpath("udfs", "java", "headrace", *parts[:length]).with_suffix(".java")
        if java.exists():
            return all(part in java.read_text(encoding="utf-8") for part in parts[length:])
        try:
            found: Any = importlib.import_module(".".join(["headrace", *parts[:length]]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return len(parts) == 1 and f'"{name}"' in PYTHON


@named(TEXTS)
def test_dotted_names_exist(page: Path) -> None:
    assert [name for name in sorted(set(DOTTED.findall(page.read_text(encoding="utf-8")))) if not resolves(name)] == []


@named(PAGES)
def test_imports_in_examples_work(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "headrace":
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name) or importlib.import_module(f"{node.module}.{name.name}")


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@named(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("http"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), link


def test_jobs_and_targets_named_in_the_text_exist() -> None:
    for page in PAGES:
        for code in inline(page.read_text(encoding="utf-8")):
            if found := re.match(r"headrace ([a-z]+)", code):
                assert (ROOT / "jobs" / f"{found[1]}.py").exists(), (page.name, code)
            if found := re.match(r"(?:make|\./run) ([a-z-]+)", code):
                assert found[1] in TARGETS, (page.name, code)


@named(TEXTS)
def test_commands_name_jobs_recipes_and_keys_that_exist(page: Path) -> None:
    for command in commands(page):
        check(command)


def check(command: list[str]) -> None:
    """Fail if a command names a target, a job, a benchmark, a recipe or a key that does not exist."""
    program, *words = command
    if program in ("make", "./run"):
        assert words[0] in TARGETS, command
    if words[:1] == ["-m"] and words[1].startswith("benchmarks."):
        assert (ROOT / words[1].replace(".", "/")).with_suffix(".py").exists(), command
    if program != "headrace" or words[0].startswith("-"):
        return
    job, what, *rest = words
    assert (ROOT / "jobs" / f"{job}.py").exists(), command
    overrides = [word for word in rest if not word.startswith("-") and "=" in word]
    if job in ("train", "build") and what.startswith("recipes/"):
        dotted = [override for override in overrides if job == "train" or "." in override.split("=")[0]]
        load_recipe(str(ROOT / what), dotted)
    sections = {"sample": (Sampling, Sampling), "evaluate": (Evaluation, Sampling)}
    if job in sections:
        own, sampling = sections[job]
        for override in overrides:
            key = override.split("=")[0]
            fields = sampling.model_fields if key.startswith("sampling.") else own.model_fields
            assert key.removeprefix("sampling.") in fields, command


def test_commands_are_found() -> None:
    """The tests above check something: README has its five steps, and every recipe of a model says how to train it."""
    jobs = [command[1] for command in commands(ROOT / "README.md") if command[0] == "headrace"]
    assert jobs == ["build", "train", "sample", "report"]
    for recipe in RECIPES:
        verb = "train" if "\ntraining:" in recipe.read_text(encoding="utf-8") else "build"
        own = ["headrace", verb, f"recipes/{recipe.name}"]
        assert own in [command[:3] for command in commands(recipe)], recipe.name
    with pytest.raises(AssertionError):
        check(["headrace", "sample", "runs/emoji", "guidence=2"])


def test_a_name_that_does_not_exist_is_noticed() -> None:
    for name in (
        "headrace.loadng",
        "headrace.loading.ShardReader",
        "headrace.udfs.jar.paths",
        "headrace.Captions.klean",
    ):
        assert not resolves(name)
    for name in ("headrace.loading.ShardLoader", "headrace.udfs.jar.path", "headrace.Captions.clean", "headrace.run"):
        assert resolves(name)
