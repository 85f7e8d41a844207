"""The plugin as the core sees it: listing, records, settings; and the hub loader."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import tunesmith_data
from tunesmith import Context, DataError, Dataset, MissingError, RecipeError, Registry
from tunesmith.recipe import Recipe, check_settings
from tunesmith_data import hub
from tunesmith_data.settings import HubSettings

NAMES = ["jsonl", "json", "csv", "parquet", "text", "conll", "hub", "docstrings", "mix"]
README = Path(__file__).parents[1] / "README.md"


def registry() -> Registry:
    found = Registry()
    found.add(tunesmith_data, name="data", distribution="tunesmith-data")
    assert not found.problems
    return found


def test_loaders_are_listed_and_resolve() -> None:
    entries = registry().entries("loader")
    assert [entry.component.name for entry in entries] == NAMES
    for entry in entries:
        assert entry.missing() == []
        assert callable(entry.component.resolve())
        assert callable(entry.component.resolve("check"))


def test_listing_and_plan_checks_import_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    program = """
import sys
from pathlib import Path
import tunesmith_data
from tunesmith_data.settings import DocstringsSettings, HubSettings, JsonlSettings
for record in tunesmith_data.tunesmith_loaders():
    settings = {"jsonl": JsonlSettings(path=Path("rows.jsonl")), "hub": HubSettings(path="a/b"),
                "docstrings": DocstringsSettings()}.get(record.name)
    if settings:
        record.resolve("check")(settings, Path(sys.argv[1]))
heavy = {"torch", "transformers", "datasets", "pandas", "pyarrow", "numpy"} & set(sys.modules)
print(sorted(heavy))
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("loader", "table"),
    [
        ("jsonl", {"path": "a.jsonl", "columns": {"prompt": "question"}, "validation": 0.1, "limit": 5}),
        ("json", {"path": "a.json", "field": "rows", "keep": ["task"], "format": "prompt"}),
        ("csv", {"path": "a.csv", "delimiter": ";", "validation_path": "b.csv"}),
        ("text", {"path": "texts", "row": "paragraph", "limit": 5, "duplicates": "keep"}),
        ("conll", {"path": "a.conll", "word": 2, "tag": 4, "separator": "\t", "comment": "#", "label_names": ["O"]}),
        ("hub", {"path": "openai/gsm8k", "name": "main", "revision": "main", "validation_split": "test"}),
        ("docstrings", {"package": "stdlib", "max_source_chars": 600, "system": "Be brief."}),
    ],
)
def test_recipe_tables_are_accepted(loader: str, table: dict[str, Any]) -> None:
    kind = registry().find("loader", loader).component.settings
    settings = check_settings(kind, table, Recipe({"data": table}), ("data",))
    for key, value in table.items():
        found = getattr(settings, key)
        assert (str(found) if isinstance(found, Path) else list(found) if isinstance(found, tuple) else found) == value


@pytest.mark.parametrize(
    "table", [{"validation": 1.0}, {"validation": -0.1}, {"limit": 0}, {"format": "alpacca"}, {"delimiter": ";;"}]
)
def test_recipe_tables_with_impossible_values_are_refused(table: dict[str, Any]) -> None:
    kind = registry().find("loader", "csv").component.settings
    with pytest.raises(RecipeError):
        check_settings(kind, {"path": "a.csv", **table}, Recipe({"data": table}), ("data",))


@pytest.mark.parametrize("name", NAMES)
def test_readme_lists_every_setting(name: str) -> None:
    text = README.read_text(encoding="utf-8")
    for setting in fields(registry().find("loader", name).component.settings):
        assert f"| `{setting.name}` |" in text, setting.name


def load(path: str, context: Context | None = None, **settings: Any) -> Dataset:
    return hub.load(HubSettings(path=path, **settings), context or Context())


def test_hub_reads_a_folder_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "talk"
    folder.mkdir()
    for split, texts in (("train", ["a", "b", ""]), ("test", ["a", "c"])):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    context = Context(folder=tmp_path)
    dataset = load("talk", context, validation_split="test")
    assert list(dataset.train) == [("talk/train:1", {"text": "a"}), ("talk/train:2", {"text": "b"})]
    assert dataset.validation.ids == ["talk/test:2"]
    assert context.ledger.reasons() == {"'text' is empty": 1, "overlap with the training rows": 1}
    with pytest.raises(DataError, match="the dataset cannot be read"):
        load("talk", context, split="no-such")


def test_hub_passes_its_settings_on(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    calls: list[Any] = []

    def load_dataset(path: str, name: str | None, **options: Any) -> list[dict[str, str]]:
        calls.append((path, name, options))
        return [{"question": "a", "answer": "b"}]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    columns = {"prompt": "question", "completion": "answer"}
    dataset = load("openai/gsm8k", name="main", split="train[:5]", revision="v1", columns=columns)
    assert calls == [("openai/gsm8k", "main", {"split": "train[:5]", "revision": "v1"})]
    assert list(dataset.train) == [("openai/gsm8k/train[:5]:1", {"prompt": "a", "completion": "b"})]


def test_hub_that_cannot_be_reached_gives_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError("Couldn't reach 'no/such' on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(MissingError, match="'no/such' cannot be fetched: Couldn't reach") as error:
        load("no/such")
    assert error.value.exit_code == 69
    assert error.value.fix is not None
    assert "HF_HUB_OFFLINE" in error.value.fix


def test_hub_split_and_share_exclude_each_other() -> None:
    with pytest.raises(RecipeError, match="exclude each other"):
        load("a/b", validation=0.1, validation_split="test")


def test_the_plugin_passes_the_kit(check_plugin):
    import tunesmith_data

    file = {"path": "rows.jsonl"}
    check_plugin(
        tunesmith_data,
        examples={
            **dict.fromkeys(("jsonl", "json", "csv", "parquet", "text", "conll"), file),
            "hub": {"path": "owner/name"},
        },
    )
