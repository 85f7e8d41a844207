"""Reading a recipe: TOML, presets, `--set`, and checked settings with the place of every mistake."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tomli
from annotated_types import Ge, Interval, MinLen

from tunesmith.errors import RecipeError
from tunesmith.guard import guarded, wrong_type
from tunesmith.locate import KeyPath, key_lines, line_of
from tunesmith.possible import check_paths, check_values
from tunesmith.spec import Settings
from tunesmith.words import advice

if TYPE_CHECKING:
    from tunesmith.registry import Registry

S = TypeVar("S", bound=Settings)

LARGEST = 1 << 20  # characters of a recipe
#: What a stage may hold.
STAGE_KEYS = ("model", "models", "data", "quantizer", "adapter", "trainer", "evaluate", "export")
#: What only the top of a recipe may hold.
TOP_KEYS = ("preset", "plugins", "run", "launcher", "stages", "compare", "search")


@dataclass(frozen=True, kw_only=True)
class RunSettings(Settings):
    """The table `[run]`: what concerns the engine and no method."""

    folder: Path = Path("runs")
    """Where run folders are made, relative to the current folder."""
    name: Annotated[str, MinLen(1)] | None = None
    """Name of the run; a number is appended. Default: the recipe's file name."""
    seed: Annotated[int, Interval(ge=0, lt=2**32)] = 42
    """Seed of every random choice: split, order, initialisation, dropout, sampling."""
    repetition: Annotated[int, Ge(0)] = 0
    """Which of several repetitions this is: another order, initialisation and draw of few rows, on the same split."""
    device: str = "auto"
    """cpu, cuda, cuda:N or mps; auto takes the first GPU, else the CPU."""
    threads: Annotated[int, Interval(ge=0, le=4096)] = 0
    """Threads of torch on the CPU; 0 leaves torch's own choice. Results repeat bit by bit only at an equal count."""
    max_lost_rows: Annotated[float, Interval(ge=0, le=1)] = 0.05
    """Largest share of rows that may be dropped before the run is refused."""
    verdict: bool = True
    """Whether a run measures before and after what its recipe does not name: the trainer's own evaluators where there
    is no [[evaluate]], and what was forgotten."""
    memory_check: Literal["refuse", "warn", "off"] = "refuse"
    """What happens when the estimate of memory is more than this machine has: refuse, warn, or nothing."""
    other_versions: bool = False
    """Whether `resume` may go on with other versions of torch and the like, which give other bits."""


@dataclass
class Recipe:
    """A recipe after presets and `--set`, with the place each key came from.

    Args:
        path: the file; None when it was made in code.
        tree: the merged tables.
        lines: line numbers of the file's keys.
        origins: for keys that are not from the file: `preset NAME` or `--set`.
        left_out: by table, what of a preset does not apply, because the recipe uses another component there.
    """

    tree: dict[str, Any]
    path: Path | None = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    left_out: dict[KeyPath, str] = field(default_factory=dict)
    base: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder that relative paths start from."""
        if self.base is not None:
            return self.base
        return self.path.resolve().parent if self.path else Path.cwd()

    def where(self, *path: str | int) -> str:
        """`file:line` of a key, or the preset or `--set` it came from."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
            if path[:length] in self.lines:
                break
        name = str(self.path) if self.path else "recipe"
        line = line_of(self.lines, path)
        return f"{name}:{line}" if line else name

    @property
    def plugin_files(self) -> list[Path]:
        """The local plugin files that `plugins = [...]` names, as absolute paths."""
        names = self.tree.get("plugins", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise RecipeError(
                "`plugins` must be a list of file names",
                where=self.where("plugins"),
                fix='Write it as plugins = ["./my_method.py"].',
            )
        files = [(self.folder / name).resolve() for name in names]
        for file in files:
            if not file.is_file():
                raise RecipeError(
                    f"the plugin file {file} does not exist",
                    where=self.where("plugins"),
                    fix="Mend `plugins`; relative paths start at the recipe's folder.",
                )
        return files

    def to_toml(self) -> str:
        """The resolved recipe as TOML text."""
        import tomli_w

        return tomli_w.dumps(self.tree)


def read(path: Path, sets: Sequence[str] = ()) -> Recipe:
    """Read a recipe file; presets are expanded later, when plugins are known (`expand`).

    Raises:
        RecipeError: the file is missing, not UTF-8, not TOML, has unknown tables, or holds a secret.
        UsageError: a `--set` does not read KEY=VALUE.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if len(text) > LARGEST:
            raise RecipeError(
                f"the recipe has {len(text):,} characters; at most {LARGEST:,} are read",
                where=str(path),
                fix="Put long texts into files and name these.",
            )
    except OSError as error:
        raise RecipeError(
            f"cannot read the recipe: {error.strerror}", where=str(path), fix="`tunesmith init` writes one."
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            f"the recipe is not UTF-8: {error.reason}", where=f"{path}:{line}", fix="Save the file as UTF-8."
        ) from error
    try:
        tree, lines = tomli.loads(text), key_lines(text)
    except (ValueError, RecursionError) as error:  # a number of many digits is a ValueError of Python's own
        place = getattr(error, "lineno", None)  # tomli 2.2 and newer
        raise RecipeError(
            f"not valid TOML: {'nested too deeply' if isinstance(error, RecursionError) else error}",
            where=f"{path}:{place}" if place else str(path),
            fix="Mend that line; `tunesmith init` writes a recipe to compare with.",
        ) from error
    from tunesmith.assign import assign
    from tunesmith.grants import check_grants

    recipe = Recipe(tree, path, lines)
    for assignment in sets:
        assign(recipe, assignment)
    check_grants(recipe)
    _check_keys(recipe, recipe.tree, (), (*TOP_KEYS, *STAGE_KEYS))
    return recipe


def expand(recipe: Recipe, registry: Registry) -> Recipe:
    """Merge the presets that the recipe names below its own keys.

    Raises:
        RecipeError, MissingError: the preset is unknown or its settings are wrong.
    """
    named = recipe.tree.get("preset")
    if named is None:
        return recipe
    for use in named if isinstance(named, list) else [named]:
        table = {"use": use} if isinstance(use, str) else use
        if not isinstance(table, dict) or not isinstance(table.get("use"), str):
            raise RecipeError(
                "a preset is a name or a table with `use`",
                where=recipe.where("preset"),
                fix='Write it as preset = "NAME".',
            )
        name = table["use"]
        entry = registry.find("preset", name, where=recipe.where("preset"))
        rest = {key: value for key, value in table.items() if key != "use"}
        settings = check_settings(entry.component.settings, rest, recipe, ("preset",))
        with guarded(entry):
            partial = entry.component.resolve()(settings)
        if not isinstance(partial, dict):
            raise wrong_type(entry, "a partial recipe (a dict)", partial)
        _check_keys(recipe, partial, (), STAGE_KEYS, source=f"preset {name}")
        _merge_below(recipe, recipe.tree, partial, (), f"preset {name}")
    del recipe.tree["preset"]
    return recipe


def check_settings(kind: type[S], table: Mapping[str, Any], recipe: Recipe, path: KeyPath) -> S:
    """Check a table against a settings class and build it.

    Raises:
        RecipeError: with file, line, and the nearest name for an unknown key.
    """
    names = [item.name for item in fields(kind)]
    for key in table:
        if key not in names:
            takes = f"It takes: {', '.join(names)}." if names else "It takes no settings."
            raise RecipeError(
                f"unknown setting {key!r} in [{dotted(path)}]",
                where=recipe.where(*path, key),
                fix=advice(key, names, path, takes),
            )
    from pydantic import TypeAdapter, ValidationError

    check_values(table, recipe.where, path)
    try:
        # JSON mode is strict about types ("4" is not 4) and still reads a list as a tuple, a string as a path
        settings = TypeAdapter(kind).validate_json(json.dumps(dict(table), default=str), strict=True)
    except ValidationError as error:
        first, *others = _problems(error.errors(include_url=False), table)
        raise RecipeError(
            _explain(first, path),
            where=recipe.where(*path, *first["loc"]),
            details=[f"{recipe.where(*path, *other['loc'])}: {_explain(other, path)}" for other in others],
            fix="`tunesmith schema` describes every key of a recipe."
            if path[:1] in (("run",), ("compare",))
            else "`tunesmith plugins show NAME` lists the settings with their meaning.",
        ) from error
    check_paths(settings, recipe.where, path)
    return settings


def plain(settings: Settings) -> dict[str, Any]:
    """Settings as JSON-ready data."""
    return json.loads(json.dumps(asdict(settings), default=str))


def _problems(found: Sequence[Any], table: Mapping[str, Any]) -> list[Any]:
    """pydantic's errors with the place in the table only, one for each place.

    For a setting of several types (`Path | float`) pydantic gives one error a type and puts the type's name into the
    place; errors of one place become one that says what each type expects.
    """
    problems: dict[KeyPath, Any] = {}
    for problem in found:
        place: KeyPath = ()
        node: Any = table
        for part in problem["loc"]:
            inside = (isinstance(node, Mapping) and part in node) or (isinstance(node, list) and isinstance(part, int))
            if inside or (problem["type"] == "missing" and part == problem["loc"][-1]):
                place = (*place, part)
                node = node[part] if inside else None
        if place in problems:
            problems[place]["msg"] += f", or {problem['msg'][0].lower()}{problem['msg'][1:]}"
        else:
            problems[place] = {**problem, "loc": place}
    return list(problems.values())


def _explain(problem: Any, path: KeyPath) -> str:
    name = dotted((*path, *problem["loc"]))
    given = problem.get("input")
    if problem["type"] == "missing":
        return f"{name} is required"
    return f"{name} = {json.dumps(given, default=str)}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def dotted(path: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in path)


def _check_keys(
    recipe: Recipe, table: Mapping[str, Any], path: KeyPath, allowed: Sequence[str], source: str | None = None
) -> None:
    for key in table:
        if key not in allowed:
            raise RecipeError(
                f"unknown table or key {key!r}",
                where=source or recipe.where(*path, key),
                fix=advice(key, allowed, path, f"There are: {', '.join(allowed)}."),
            )


def _merge_below(recipe: Recipe, tree: dict[str, Any], below: Mapping[str, Any], path: KeyPath, origin: str) -> None:
    """Add the keys of `below` that `tree` lacks. A table whose `use` differs is left alone."""
    for key, value in below.items():
        place = (*path, key)
        if key not in tree:
            tree[key] = json.loads(json.dumps(value, default=str))
            recipe.origins[place] = origin
        elif isinstance(tree[key], dict) and isinstance(value, Mapping):
            if "use" in value and tree[key].get("use", value["use"]) != value["use"]:
                lost = ", ".join(f"{name} = {item!r}" for name, item in value.items() if name != "use")
                if lost:
                    recipe.left_out[place] = f"{origin} sets {lost} for {value['use']!r} only, so not here"
                continue
            _merge_below(recipe, tree[key], value, place, origin)
