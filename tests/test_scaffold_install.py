"""A stranger's method from nothing to a trained adapter: in a fresh environment with pip, and as a single file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tunesmith import Registry
from tunesmith.artifact import read_card
from tunesmith.context import SilentReporter
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.run import start
from tunesmith.testing.scaffold import write_file

ROOT = Path(__file__).parents[1]
NEEDED = ("transformers", "data", "sft")

RECIPE = """\
{top}
[model]
source = "{model}"

[data]
use = "jsonl"
path = "rows.jsonl"
validation = 0.2

[adapter]
use = "{method}"
targets = ["q_proj", "v_proj", "down_proj"]

[trainer]
use = "sft"
learning_rate = 1e-2
batch_size = 4
max_steps = 6

[[evaluate]]
use = "perplexity"
"""


def write_recipe(path: Path, model: Path, method: str, top: str = "") -> Path:
    """A recipe that trains a new method on the tiny model and a few rows."""
    rows = [{"prompt": f"{a} + {b} = ", "completion": str(a + b)} for a in range(6) for b in range(5)]
    (path.parent / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    path.write_text(RECIPE.format(model=model, method=method, top=top), encoding="utf-8")
    return path


def check_result(results: dict[str, dict]) -> None:
    """Training moved the method's own parameters, and the held-out rows became likelier."""
    result = results["main"]
    assert result["training"]["steps"] == 6
    assert result["training"]["trainable_parameters"] == 2 * (32 + 32 + 64)
    before, after = (result[when]["measures"]["perplexity"]["value"] for when in ("before", "after"))
    assert after < before


# --- a package, with pip ----------------------------------------------------------------------
def fresh_environment(folder: Path) -> Path:
    """A new virtual environment that sees the large libraries installed here, and no Tunesmith; its programs' folder.

    Installing torch again would take minutes, so a `.pth` file names a folder of links to everything else.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    links = folder / "others"
    links.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if "tunesmith" not in entry.name and entry.suffix != ".pth":
                (links / entry.name).symlink_to(entry)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "others.pth").write_text(f"{links}\n", encoding="utf-8")
    return folder / "bin"


@pytest.mark.run
@pytest.mark.slow
def test_a_new_package_installs_is_listed_passes_and_trains(tmp_path: Path, tiny_folder: Path) -> None:
    programs = fresh_environment(tmp_path / "venv")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TUNESMITH", "PYTHON"))}
    environment = {
        **kept,
        "TUNESMITH_CONFIG": str(tmp_path / "config"),
        "TUNESMITH_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "NO_COLOR": "1",
    }

    def call(*command: str) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def pip_install(*folders: Path) -> None:
        options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
        call(str(programs / "python"), "-m", "pip", "install", *options, *map(str, folders))

    tunesmith = str(programs / "tunesmith")
    pip_install(ROOT, *(ROOT / "plugins" / name for name in NEEDED))
    assert "mymethod" not in call(tunesmith, "plugins", "list", "--json")
    call(tunesmith, "plugins", "new", "tunesmith-mymethod", "--kind", "adapter")
    pip_install(tmp_path / "tunesmith-mymethod")

    listed = {entry["name"]: entry for entry in json.loads(call(tunesmith, "plugins", "list", "--json"))}
    assert listed["mymethod"]["state"] == "ready"
    assert (listed["mymethod"]["kind"], listed["mymethod"]["distribution"]) == ("adapter", "tunesmith-mymethod")
    assert [entry for entry in listed.values() if entry["state"] == "broken"] == []

    checked = json.loads(call(tunesmith, "plugins", "check", "tunesmith-mymethod", "--json"))
    assert len(checked) > 15
    assert all(result["ok"] for result in checked)

    recipe = write_recipe(tmp_path / "recipe.toml", tiny_folder, "mymethod")
    call(tunesmith, "run", str(recipe))
    (run,) = (tmp_path / "runs").iterdir()
    check_result(json.loads((run / "results.json").read_text(encoding="utf-8")))
    assert read_card(run / "artifact")["line"]["adapter"]["distribution"] == "tunesmith-mymethod"


# --- a single file ----------------------------------------------------------------------------
@pytest.mark.run
def test_a_single_file_named_in_a_recipe_trains(tmp_path: Path, tiny_folder: Path) -> None:
    import tunesmith_data
    import tunesmith_sft
    import tunesmith_transformers

    write_file(tmp_path / "my_method.py")
    path = write_recipe(tmp_path / "recipe.toml", tiny_folder, "my-method", 'plugins = ["./my_method.py"]')
    recipe = read(path)
    registry = Registry()
    for module in (tunesmith_data, tunesmith_sft, tunesmith_transformers):
        registry.add(module)
    for file in recipe.plugin_files:
        registry.add_file(file)
    assert registry.problems == []
    run = start(make_plan(recipe, registry), registry, SilentReporter(), base=tmp_path / "runs")
    check_result({name: result.describe() for name, result in run.results.items()})
    assert read_card(run.folder / "artifact")["line"]["adapter"]["distribution"] == "local"
