"""The recipes, rows and links that the pages show are right, and the plugins' pages name every setting."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomli_w

from tunesmith import Registry
from tunesmith.comparison.driver import Work
from tunesmith.context import Context, SilentReporter
from tunesmith.plan import Plan, make_plan
from tunesmith.recipe import STAGE_KEYS, TOP_KEYS, Recipe, read
from tunesmith.search.driver import Work as Search
from tunesmith.testing.scaffold import write_file, write_package

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
    *sorted(ROOT.glob("contrib/*/README.md")),
]
PYPROJECT = {"build-system", "project", "tool"}
FIRST_PARTY = {f"tunesmith-{folder.name}" for folder in ROOT.glob("plugins/*")}
#: What a fragment needs to be a recipe.
REST: dict[str, Any] = {
    "model": {"source": "owner/name"},
    "data": {"use": "jsonl", "path": "rows.jsonl"},
    "adapter": {"use": "lora"},
    "trainer": {"use": "sft"},
}
#: Rows that fit the columns that a `[data]` table maps.
ROWS = ({"prompt": "1+1=", "completion": "2"}, {"text": "good", "label": "yes"})


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(r"^(`{3,})(\w+)\n(.*?)^\1$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for _, kind, text in found if kind == language]


SHOWN = [
    pytest.param(tree, id=f"{name(page)}-{number}")
    for page in PAGES
    for number, text in enumerate(blocks(page, "toml"), 1)
    if not (tree := tomli.loads(text)).keys() & PYPROJECT
]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.toml"))


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = Registry.discover()
    assert not [problem for problem in found.problems if not problem.disabled]
    return found


@pytest.fixture
def plan(tmp_path: Path, tiny_folder: Path, registry: Registry) -> Callable[[dict[str, Any]], Plan]:
    """Plan a recipe in a folder that has every file it names; the model is the tiny one, which says it is larger.

    The folder lies so deep that what a recipe finds above its own (`../../../shared`) is still of this test alone.
    """
    home = tmp_path
    tmp_path = home.joinpath(*"abcdef")
    tmp_path.mkdir(parents=True)
    model_folder = _of_usual_size(tiny_folder, home / "model")

    def make(tree: dict[str, Any]) -> Plan:
        for file in tree.get("plugins", []):
            write_file(tmp_path / file)
        for stage in tree.get("stages", {"": tree}).values():
            for model in (stage.get("model", {}), *stage.get("models", {}).values()):
                if "source" in model:
                    _claimed(registry, model["source"])
                    model["source"] = str(model_folder)
            for data in (stage["data"], *stage["data"].get("sources", {}).values()):
                for key, value in data.items():
                    if key in ("path", "validation_path") and data["use"] != "hub":
                        path = (tmp_path / value).resolve()
                        assert path.is_relative_to(home), f"{value} leads out of the folder of this test"
                        _write_rows(path, data.get("columns", {}))
            _write_rewards(tmp_path, stage["trainer"].get("reward", ()))
        path = tmp_path / "recipe.toml"
        path.write_text(tomli_w.dumps(tree), encoding="utf-8")
        recipe = read(path)
        files = [*recipe.plugin_files, *_of_the_tutorial(tree, tmp_path)]
        return make_plan(recipe, Registry.discover(files=files) if files else registry)

    return make


def _of_usual_size(folder: Path, target: Path) -> Path:
    """A model folder whose configuration has the sizes of SmolLM2-135M, which is all that a plan reads."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
    config |= {"head_dim": 64, "max_position_embeddings": 8192}
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return target


def _write_rewards(folder: Path, rewards: str | list[str]) -> None:
    """The files of reward functions that a recipe names."""
    for named in (rewards,) if isinstance(rewards, str) else rewards:
        file, _, function = named.rpartition(":")
        if file.endswith(".py"):
            (folder / file).write_text(f"def {function}(prompts, completions, rows): ...\n", encoding="utf-8")


def _of_the_tutorial(tree: Mapping[str, Any], folder: Path) -> list[Path]:
    """The tutorial's package, where a recipe names its method; as a file, since it is not installed."""
    if tree.get("adapter", {}).get("use") != "mymethod":
        return []
    write_package(folder / "package", "tunesmith-mymethod", "adapter")
    return [(folder / "package" / "tunesmith_mymethod" / "__init__.py").rename(folder / "mymethod.py")]


def _claimed(registry: Registry, source: str) -> None:
    """Some model source understands a hub id or a wheel; a folder or a file must be there for that."""
    if not source.startswith(".") and Path(source).suffix != ".gguf":
        assert any(entry.component.claims(source, ROOT) for entry in registry.entries("model")), source  # type: ignore[attr-defined]


def _write_rows(path: Path, columns: Mapping[str, str]) -> None:
    row = next(row for row in ROWS if columns.keys() <= row.keys())
    named = {columns.get(column, column): value for column, value in row.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(named))
            writer.writeheader()
            writer.writerow(named)
    elif path.suffix in (".conll", ".conllu"):
        path.write_text("1\tAda\tAda\tPROPN\n2\tsings\tsing\tVERB\n", encoding="utf-8")
    elif path.suffix == ".txt":
        path.write_text("A line of plain text.\n", encoding="utf-8")
    elif not path.suffix:
        path.mkdir()
        (path / "one.txt").write_text("A line of plain text.\n", encoding="utf-8")
    else:
        assert path.suffix == ".jsonl", f"rows in a {path.suffix} file are not written here yet"
        path.write_text(json.dumps(named) + "\n", encoding="utf-8")


# --- recipes ----------------------------------------------------------------------------------
@pytest.mark.parametrize("shown", SHOWN)
def test_a_recipe_that_is_shown_can_be_planned(
    shown: dict[str, Any], plan: Callable[[dict[str, Any]], Plan], registry: Registry, tmp_path: Path
) -> None:
    assert shown.keys() <= {*TOP_KEYS, *STAGE_KEYS}
    tree = shown if "stages" in shown else {**json.loads(json.dumps(REST)), **shown}
    planned = plan(json.loads(json.dumps(tree)))
    used = {use.component.name for stage in planned.stages for use in stage.uses()}
    if "compare" in shown:
        used |= _compared(planned.recipe, registry)
    if "search" in shown:
        used.add(Search.plan(planned.recipe, registry, tmp_path / "search").searcher.component.name)
    assert {table["use"] for table in _tables(shown) if "use" in table} <= used


def _compared(recipe: Recipe, registry: Registry) -> set[str]:
    """The adapters that a recipe compares, and the loader of its general text."""
    if general := recipe.tree["compare"].get("general"):
        _write_rows(recipe.folder / general["path"], {})
    recipe.tree.setdefault("evaluate", [{"use": "perplexity"}])
    work = Work.plan(recipe, registry)
    uses = [use for candidate in work.candidates for use in candidate.stage.uses()]
    return {use.component.name for use in uses} | ({work.general.data.component.name} if work.general else set())


def _tables(tree: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for value in tree.values():
        for table in value if isinstance(value, list) else [value]:
            if isinstance(table, Mapping):
                yield table
                yield from _tables(table)


@pytest.mark.parametrize("example", EXAMPLES, ids=name)
def test_an_example_can_be_planned(example: Path, plan: Callable[[dict[str, Any]], Plan]) -> None:
    text = example.read_text(encoding="utf-8")
    assert plan(tomli.loads(text)).stages
    assert f"tunesmith run {name(example)}" in text


def test_every_adapter_is_in_the_comparison_of_methods(registry: Registry, tmp_path: Path) -> None:
    work = Work.plan(read(ROOT / "docs" / "examples" / "methods.toml"), registry, folder=tmp_path)
    compared = {candidate.stage.main_role.adapter.component.name for candidate in work.candidates}  # type: ignore[union-attr]
    ours = {entry.component.name for entry in registry.entries("adapter") if entry.plugin.distribution in FIRST_PARTY}
    assert compared == ours
    page = (ROOT / "docs" / "reference" / "methods.md").read_text(encoding="utf-8")
    assert ours <= set(re.findall(r"^\| `([\w-]+)`", page, re.MULTILINE))


# --- rows -------------------------------------------------------------------------------------
OWN_DATA = ROOT / "docs" / "how-to" / "own-data.md"


@pytest.mark.parametrize("rows", blocks(OWN_DATA, "json"))
def test_rows_that_are_shown_load(rows: str, tmp_path: Path, registry: Registry) -> None:
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    loader = registry.find("loader", "jsonl").component
    settings = loader.settings(path=Path("rows.jsonl"))  # type: ignore[call-arg]
    context = Context(folder=tmp_path, reporter=SilentReporter())
    data = loader.resolve()(settings, context)
    assert len(data.train) == len(rows.splitlines()) == context.ledger.rows_in
    (columns,) = {tuple(json.loads(row)) for row in rows.splitlines()}
    assert data.type == {("prompt", "completion"): "prompt-completion", ("messages",): "messages"}[columns]


def test_the_code_that_recognises_rows_does_as_its_comments_say() -> None:
    (code,) = blocks(ROOT / "plugins" / "data" / "README.md", "python")
    names: dict[str, Any] = {}
    for line in code.splitlines():
        exec(line, names)  # the page's own words
        target, _, said = line.partition("  # ")
        if said:
            left = target.partition(" = ")[0]
            assert eval(left, names) == eval(f"({said})", names)


# --- links and settings -----------------------------------------------------------------------
@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"^(`{3,}).*?^\1$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (page.parent / file).resolve() if file else page
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, target


@pytest.mark.parametrize("folder", sorted(page.parent for page in ROOT.glob("plugins/*/README.md")), ids=name)
def test_a_plugin_s_page_names_every_component_and_every_setting(folder: Path, registry: Registry) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    entries = [entry for entry in registry.entries() if entry.plugin.distribution == f"tunesmith-{folder.name}"]
    assert entries
    for entry in entries:
        assert f"`{entry.component.name}`" in text or f'"{entry.component.name}"' in text
        rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
        assert {field.name for field in fields(entry.component.settings)} <= rows, entry.component.name


# --- news -------------------------------------------------------------------------------------
def test_the_news_can_be_put_together() -> None:
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9"]
    news = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "# Tunesmith 9.9.9 (" in news
    fragments = [path for path in (ROOT / "changelog.d").glob("*.md") if path.name != "README.md"]
    assert [path.name for path in fragments if f"\n- {path.read_text(encoding='utf-8').strip()}\n" not in news] == []
