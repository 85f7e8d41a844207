"""What the packages promise each other: versions, entry points, light imports, complete documentation."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tunesmith import adapted, context, hooks, labels, records, results, spec, steps
from tunesmith.recipe import STAGE_KEYS, TOP_KEYS, RunSettings
from tunesmith.registry import Registry, catalogue

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core" / "tunesmith"
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
CONTRIB = sorted(path.parent for path in ROOT.glob("contrib/*/pyproject.toml"))
PACKAGES = [ROOT, *PLUGINS, *CONTRIB]
HEAVY = {
    "torch", "transformers", "peft", "trl", "datasets", "accelerate", "numpy", "pandas", "pyarrow", "safetensors",
    "sklearn", "tokenizers", "bitsandbytes", "torchao", "huggingface_hub", "gguf", "sacrebleu", "rouge_score",
}  # fmt: skip


def project(folder: Path) -> dict[str, Any]:
    return dict(tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8")))


def label(folder: Path) -> str:
    return folder.name if folder != ROOT else "core"


# --- distributions ----------------------------------------------------------------------------
@pytest.mark.parametrize("folder", PACKAGES, ids=label)
def test_every_package_has_the_core_s_version_and_no_upper_caps(folder: Path) -> None:
    about = project(folder)["project"]
    assert about["version"] == tunesmith.__version__
    assert about["requires-python"] == ">=3.11"
    assert about["license"] == "Apache-2.0"
    extras = [item for items in about.get("optional-dependencies", {}).values() for item in items]
    for requirement in (*about.get("dependencies", []), *extras):
        assert not re.search(r"<|==|~=", requirement.partition(";")[0]), f"{requirement} has an upper cap"
    assert (folder / "README.md").read_text(encoding="utf-8").strip()


@pytest.mark.parametrize("folder", [*PLUGINS, *CONTRIB], ids=label)
def test_every_plugin_has_the_same_shape(folder: Path) -> None:
    about = project(folder)
    module = f"tunesmith_{folder.name.replace('-', '_')}"
    assert about["project"]["name"] == f"tunesmith-{folder.name}"
    assert about["project"]["entry-points"]["tunesmith"] == {folder.name: module}
    assert about["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [module]
    assert f"tunesmith>={tunesmith.__version__}" in about["project"]["dependencies"]
    assert (folder / module / "__init__.py").is_file()
    tests = [path.name for path in (folder / "tests").glob("test_*.py")]
    assert tests
    assert not (folder / "tests" / "__init__.py").exists()


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in ROOT.glob("plugins/*/tests/test_*.py")] + [
        path.name for path in (*ROOT.glob("tests/test_*.py"), *ROOT.glob("contrib/*/tests/test_*.py"))
    ]
    assert sorted(names) == sorted(set(names))


def test_the_root_offers_every_plugin_as_an_extra() -> None:
    extras = project(ROOT)["project"]["optional-dependencies"]
    named = {folder.name for folder in PLUGINS}
    assert set(extras) == {*named, "all"}
    for name in named:
        assert extras[name] == [f"tunesmith-{name}>={tunesmith.__version__}"]
    (everything,) = extras["all"]
    assert set(re.fullmatch(r"tunesmith\[(.*)\]", everything)[1].split(",")) == named  # type: ignore[index]


def test_what_is_developed_here_is_one_list() -> None:
    lines = (ROOT / "dev-requirements.txt").read_text(encoding="utf-8").splitlines()
    editable = [line.removeprefix("-e ").strip() for line in lines if line.startswith("-e")]
    assert sorted(editable) == sorted([".", *(str(folder.relative_to(ROOT)) for folder in (*PLUGINS, *CONTRIB))])


def test_constraints_are_exact_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wrong = [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line)]
    assert lines
    assert wrong == []
    names = [re.sub(r"[._-]+", "-", line.partition("==")[0]).lower() for line in lines]
    assert sorted(names) == sorted(set(names))
    assert not any(name == "tunesmith" or name.startswith("tunesmith-") for name in names)


# --- light imports ----------------------------------------------------------------------------
def imported_at_once(path: Path) -> set[str]:
    """Top-level names of what a module imports when it is imported, `if TYPE_CHECKING` aside."""
    found: set[str] = set()

    def visit(statements: list[ast.stmt]) -> None:
        for node in statements:
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add((node.module or "").partition(".")[0])
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                visit(node.orelse)
            elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for name in ("body", "orelse", "finalbody"):
                    visit(getattr(node, name, []))
                for handler in getattr(node, "handlers", []):
                    visit(handler.body)

    visit(ast.parse(path.read_text(encoding="utf-8")).body)
    return found


def test_the_core_imports_no_heavy_library() -> None:
    paths = sorted(CORE.rglob("*.py"))
    assert len(paths) > 20
    assert {str(path.relative_to(CORE)): imported_at_once(path) & HEAVY for path in paths} == {
        str(path.relative_to(CORE)): set() for path in paths
    }


@pytest.mark.parametrize("folder", [*PLUGINS, *CONTRIB], ids=label)
def test_listing_a_plugin_imports_no_heavy_library(folder: Path) -> None:
    package = folder / f"tunesmith_{folder.name.replace('-', '_')}"
    todo, seen = [package / "__init__.py"], set()
    while todo:
        path = todo.pop()
        seen.add(path)
        assert imported_at_once(path) & HEAVY == set(), path
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"{package.name}."):
                inner = package.joinpath(*str(node.module).split(".")[1:]).with_suffix(".py")
                if inner.is_file() and inner not in seen:
                    todo.append(inner)


def test_the_public_names_are_there_and_documented() -> None:
    for name in tunesmith.__all__:
        value = getattr(tunesmith, name)
        if inspect.isclass(value) and value.__module__.startswith("tunesmith"):
            assert value.__doc__, name


# --- catalogue --------------------------------------------------------------------------------
def test_every_first_party_component_is_in_the_catalogue() -> None:
    registry = Registry.discover()
    ours = {f"tunesmith-{folder.name}" for folder in PLUGINS}
    found = [entry for entry in registry.entries() if entry.plugin.distribution in ours]
    listed = catalogue()
    assert {entry.plugin.distribution for entry in found} == ours, registry.problems
    for entry in found:
        package = listed.get(entry.component.kind, {}).get(entry.component.name)
        assert package == entry.plugin.distribution, f"{entry.component.kind} {entry.component.name}"
    offered = {(entry.component.kind, entry.component.name) for entry in found}
    promised = {(kind, name) for kind, names in listed.items() for name, package in names.items() if package in ours}
    assert promised <= offered, f"listed but not offered: {sorted(promised - offered)}"


def test_the_catalogue_has_kinds_and_packages_only() -> None:
    for kind, names in catalogue().items():
        assert kind in spec.KINDS
        assert all(spec.NAME.match(name) and package.startswith("tunesmith-") for name, package in names.items())


# --- documentation ----------------------------------------------------------------------------
HOOKS_PAGE = (ROOT / "docs" / "reference" / "hooks.md").read_text(encoding="utf-8")
RECIPE_PAGE = (ROOT / "docs" / "reference" / "recipe.md").read_text(encoding="utf-8")
RECORDS = [
    spec.Component, spec.Settings, *spec.KINDS.values(), spec.Role, context.Context, records.Dataset, records.Records,
    steps.Row,
    adapted.ModelHandle, adapted.Quantization, results.TrainResult, results.Evaluation, results.Measure, results.Sample,
    results.Curve, results.Table, results.Matrix, labels.Labels,
]  # fmt: skip


def sections(page: str, level: str) -> dict[str, str]:
    parts = re.split(rf"^{level} (.+)$", page, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def keys(text: str) -> list[str]:
    """The first column of the tables in a section."""
    return re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE)


def test_every_hook_is_documented_with_its_signature() -> None:
    specified = {
        f"`{name}({', '.join(list(inspect.signature(function).parameters)[1:])})`"
        for group in (hooks.ComponentHooks, hooks.ObserverHooks)
        for name, function in vars(group).items()
        if name.startswith("tunesmith_")
    }
    found = {title: text for title, text in sections(HOOKS_PAGE, "###").items() if title.startswith("`")}
    assert set(found) == specified
    assert all(len(text.split()) >= 8 for text in found.values())


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_record_is_documented_with_its_fields(record: type[Any]) -> None:
    inherited = set() if record is spec.Component else {field.name for field in dataclasses.fields(spec.Component)}
    own = [field.name for field in dataclasses.fields(record)]
    if issubclass(record, spec.Component):
        own = [name for name in own if name not in inherited]
    assert keys(sections(HOOKS_PAGE, "###")[record.__name__].split("\n## ")[0]) == own


def test_every_method_of_an_adapted_model_is_documented() -> None:
    text = sections(HOOKS_PAGE, "###")["Adapted"]
    for name, method in vars(adapted.Adapted).items():
        if not name.startswith("_"):
            assert f"`{name}({', '.join(list(inspect.signature(method).parameters)[1:])})`" in text.replace("\n", " ")


def test_every_record_type_is_documented() -> None:
    for name in spec.RECORD_COLUMNS:
        assert f"`{name}`" in sections(HOOKS_PAGE, "###")["Dataset"]


def test_every_key_of_a_recipe_is_documented() -> None:
    found = sections(RECIPE_PAGE, "##")
    assert keys(found["Tables of a stage"]) == list(STAGE_KEYS)
    assert keys(found["Keys of the top only"]) == list(TOP_KEYS)


def test_every_setting_of_a_run_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", sections(RECIPE_PAGE, "##")["`[run]`"], flags=re.MULTILINE)
    assert [name for name, _ in rows] == [field.name for field in dataclasses.fields(RunSettings)]
    for field, (_, default) in zip(dataclasses.fields(RunSettings), rows, strict=True):
        if field.default is not None:
            value = tomllib.loads(f"x = {default.strip('`')}")["x"]
            assert value == (str(field.default) if isinstance(field.default, Path) else field.default), field.name


def test_the_recipes_that_are_shown_are_toml() -> None:
    for page in (RECIPE_PAGE, HOOKS_PAGE):
        for text in re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL):
            assert tomllib.loads(text)


def test_the_example_of_a_plugin_is_one() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", HOOKS_PAGE, flags=re.DOTALL)
    module: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "hooks.md", "exec", dont_inherit=True), module)  # the page's own words
    registry = Registry()
    registry.add(type("Example", (), {"tunesmith_adapters": staticmethod(module["tunesmith_adapters"])}), name="scale")
    assert registry.problems == []
    assert registry.find("adapter", "scale").component.settings().start == 1.0  # type: ignore[attr-defined]
