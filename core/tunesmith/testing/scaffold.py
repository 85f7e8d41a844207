"""Writing a new plugin: a small package of any kind that works as it is, or a single local file."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from tunesmith.errors import UsageError, nearest
from tunesmith.spec import NAME
from tunesmith.testing import (
    templates,
    templates_data,
    templates_model,
    templates_run,
    templates_search,
    templates_step,
)


@dataclass(frozen=True)
class Kind:
    """What the package of one kind holds besides the common files.

    Args:
        files: Python files of the package by name.
        needs: what it depends on besides tunesmith.
    """

    summary: str
    files: dict[str, str]
    recipe: str
    needs: tuple[str, ...] = field(default=())


KINDS: dict[str, Kind] = {
    "loader": Kind(
        templates_data.LOADER_SUMMARY,
        {"__init__.py": templates_data.LOADER_INIT, "loader.py": templates_data.LOADER},
        templates_data.LOADER_RECIPE,
    ),
    "step": Kind(
        templates_step.STEP_SUMMARY,
        {"__init__.py": templates_step.STEP_INIT, "step.py": templates_step.STEP},
        templates_step.STEP_RECIPE,
    ),
    "model": Kind(
        templates_model.MODEL_SUMMARY,
        {"__init__.py": templates_model.MODEL_INIT, "model.py": templates_model.MODEL},
        templates_model.MODEL_RECIPE,
        ("torch>=2.10", "transformers>=5.3"),
    ),
    "quantizer": Kind(
        templates_model.QUANTIZER_SUMMARY,
        {"__init__.py": templates_model.QUANTIZER_INIT, "quantizer.py": templates_model.QUANTIZER},
        templates_model.QUANTIZER_RECIPE,
        ("torch>=2.10",),
    ),
    "adapter": Kind(
        templates.ADAPTER_SUMMARY,
        {"__init__.py": templates.ADAPTER_INIT, "adapter.py": templates.ADAPTER},
        templates.ADAPTER_RECIPE,
        ("torch>=2.10",),
    ),
    "trainer": Kind(
        templates_run.TRAINER_SUMMARY,
        {
            "__init__.py": templates_run.TRAINER_INIT,
            "trainer.py": templates_run.TRAINER,
            "checkpoint.py": templates_run.CHECKPOINT,
        },
        templates_run.TRAINER_RECIPE,
        ("safetensors>=0.5", "torch>=2.10"),
    ),
    "evaluator": Kind(
        templates_model.EVALUATOR_SUMMARY,
        {"__init__.py": templates_model.EVALUATOR_INIT, "evaluator.py": templates_model.EVALUATOR},
        templates_model.EVALUATOR_RECIPE,
        ("torch>=2.10",),
    ),
    "exporter": Kind(
        templates_data.EXPORTER_SUMMARY,
        {"__init__.py": templates_data.EXPORTER_INIT, "exporter.py": templates_data.EXPORTER},
        templates_data.EXPORTER_RECIPE,
    ),
    "launcher": Kind(
        templates_data.LAUNCHER_SUMMARY,
        {"__init__.py": templates_data.LAUNCHER_INIT, "launcher.py": templates_data.LAUNCHER},
        templates_data.LAUNCHER_RECIPE,
    ),
    "preset": Kind(
        templates_data.PRESET_SUMMARY,
        {"__init__.py": templates_data.PRESET_INIT},
        templates_data.PRESET_RECIPE,
    ),
    "searcher": Kind(
        templates_search.SEARCHER_SUMMARY,
        {"__init__.py": templates_search.SEARCHER_INIT, "study.py": templates_search.SEARCHER},
        templates_search.SEARCHER_RECIPE,
    ),
}


def write_package(folder: Path, name: str, kind: str) -> list[Path]:
    """Write a plugin package that installs, passes its own tests and can be used at once.

    Args:
        folder: the package's own folder; made if it is not there.
        name: the distribution, such as "tunesmith-mymethod"; a recipe writes what follows "tunesmith-".
        kind: "adapter", "loader", ...

    Returns:
        The files written.

    Raises:
        UsageError: the name or the kind cannot be used, or the folder is not empty.
    """
    if kind not in KINDS:
        near = nearest(kind, list(KINDS))
        raise UsageError(
            f"there is no kind {kind!r}", fix=f"Did you mean {near!r}?" if near else f"There are: {', '.join(KINDS)}."
        )
    template = KINDS[kind]
    words = _words(name, template.summary)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already", fix="Give a folder that does not exist, or an empty one.")
    needs = ", ".join(f'"{need}"' for need in (*template.needs, "tunesmith>=0.1.0"))
    values = {
        **words,
        "dependencies": needs,
    }
    package = words["module"]
    texts = {
        "pyproject.toml": templates.PYPROJECT,
        "README.md": templates.README,
        "recipe.toml": template.recipe,
        "tests/test_conformance.py": templates.TEST,
        **{f"{package}/{file}": text for file, text in template.files.items()},
    }
    return [_write(folder / path, text, values) for path, text in texts.items()]


def write_file(path: Path) -> Path:
    """Write the adapter of the template as a single file, which a recipe names: `plugins = ["./my_method.py"]`.

    Args:
        path: the file; its name, with `-` for `_`, is what a recipe writes after `use`.

    Raises:
        UsageError: the name cannot be used, or the file is there already.
    """
    if path.exists():
        raise UsageError(f"{path} is there already", fix="Give the name of a file that does not exist.")
    words = _words(path.stem.replace("_", "-"), templates.ADAPTER_SUMMARY)
    return _write(path, templates.ADAPTER_FILE, words)


def _words(name: str, summary: str) -> dict[str, str]:
    """What the templates' placeholders stand for."""
    component = name.removeprefix("tunesmith-")
    if not NAME.match(name) or not re.match("[a-z]", name) or not component or name == "tunesmith":
        raise UsageError(
            f"{name!r} cannot be the name of a plugin",
            fix="Use lower-case words joined by hyphens, such as tunesmith-mymethod.",
        )
    stem = "".join(word.capitalize() for word in component.split("-"))
    if not stem[0].isalpha():
        stem = f"Plugin{stem}"
    return {
        "name": name,
        "module": name.replace("-", "_"),
        "component": component,
        "Class": f"{stem}Settings",
        "summary": summary,
    }


def _write(path: Path, text: str, values: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(Template(text).substitute(values), encoding="utf-8")
    return path
