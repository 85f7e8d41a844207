"""What decides a model decides whether a stage is reused, resumed and evaluated."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith import DataError, RecipeError, Registry
from tunesmith.artifact import load_artifact
from tunesmith.context import Context
from tunesmith.files.digests import AT_REST, WORTH_KEEPING, sha256_of
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.store import sha256_file
from tunesmith_transformers.sources import identity
from tunesmith_transformers.training.settings import ModelSettings

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def flipped(path: Path) -> None:
    """One bit of a weight, near the file's end."""
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)


def keyed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


CHANGES: dict[str, Callable[[Path], None]] = {
    "model.safetensors": flipped,
    "config.json": lambda path: keyed(path, rms_norm_eps=0.5),
    "generation_config.json": lambda path: keyed(path, eos_token_id=[0, 1]),
    "tokenizer.json": lambda path: path.write_text(path.read_text().replace('"add_prefix_space":', '"x":', 1) + " "),
    "tokenizer_config.json": lambda path: keyed(path, padding_side="left"),
    "chat_template.jinja": lambda path: path.write_text(path.read_text() + " "),
}


@pytest.fixture
def own_model(house: Any, tiny_folder: Path) -> Path:
    """The tiny model in a folder of the house's own, which its recipe names."""
    folder = house.folder / "model"
    shutil.copytree(tiny_folder, folder)
    recipe = house.folder / "recipe.toml"
    recipe.write_text(recipe.read_text().replace(json.dumps(str(tiny_folder)), '"model"'))
    return folder


def fingerprint(house: Any) -> str:
    return make_plan(read(house.folder / "recipe.toml"), house.make_registry()).stages[0].fingerprint


@pytest.mark.parametrize("name", CHANGES)
def test_each_file_of_a_model_decides_the_fingerprint(name: str, house: Any, own_model: Path) -> None:
    first = fingerprint(house)
    (own_model / name).touch()
    (own_model / "README.md").write_text("words decide nothing")
    assert fingerprint(house) == first
    CHANGES[name](own_model / name)
    assert fingerprint(house) != first


@pytest.mark.run
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_run_does_not_go_on_with_another_model(name: str, house: Any, own_model: Path) -> None:
    run = house.stopped(2)
    CHANGES[name](own_model / name)
    with pytest.raises(RecipeError) as refused:
        house.resume(run)
    assert refused.value.details == (f"model: {name} changed",)


@pytest.mark.run
def test_an_artifact_is_not_measured_on_another_model(house: Any, own_model: Path) -> None:
    artifact = house.run("trainer.max_steps=1", "evaluate=[]", "data.validation=0").folder / "artifact"
    context = Context(device="cpu", folder=house.folder)
    load_artifact(artifact, house.make_registry(), context)
    for name in ("config.json", "tokenizer_config.json"):
        kept = (own_model / name).read_bytes()
        CHANGES[name](own_model / name)
        with pytest.raises(DataError, match="another base model") as refused:
            load_artifact(artifact, house.make_registry(), context)
        assert list(refused.value.details) == [f"{name} changed"]
        (own_model / name).write_bytes(kept)
    load_artifact(artifact, house.make_registry(), context)


@pytest.mark.run
def test_a_stage_over_another_model_is_not_reused(house: Any, own_model: Path) -> None:
    stage = """
        [stages.{name}]
        data = {{use = "jsonl", path = "rows.jsonl"}}
        adapter = {{use = "lora", rank = 2}}
        trainer = {{use = "sft", max_steps = 1}}
        model = {model}
    """
    text = stage.format(name="one", model='{source = "model"}') + stage.format(name="two", model='{from = "one"}')
    run = f'[run]\nfolder = {json.dumps(str(house.folder / "runs"))}\ndevice = "cpu"\nverdict = false\n'
    (house.folder / "recipe.toml").write_text(run + text)
    house.run()
    again = house.run("stages.two.adapter.rank=4").results
    assert (again["one"].reused is not None, again["two"].reused) == (True, None)
    CHANGES["generation_config.json"](own_model / "generation_config.json")
    assert house.run("stages.two.adapter.rank=4").results["one"].reused is None


# --- digests that are kept --------------------------------------------------------------------
def test_a_large_file_is_hashed_once_while_it_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = tmp_path / "weights", tmp_path / "cache"
    path.write_bytes(bytes(WORTH_KEEPING))
    hashed: list[Path] = []
    monkeypatch.setattr("tunesmith.files.digests.sha256_file", lambda path: hashed.append(path) or sha256_file(path))
    monkeypatch.setattr("tunesmith.files.digests.AT_REST", -1.0)
    first = sha256_of(path, cache)
    assert sha256_of(path, cache) == first == sha256_file(path)
    assert hashed == [path]
    stat = path.stat()
    with path.open("r+b") as file:
        file.write(b"\1")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # size and date as before: the inode's own date tells
    assert sha256_of(path, cache) == sha256_file(path) != first


def test_a_file_that_just_changed_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(WORTH_KEEPING))
    assert AT_REST > 1
    sha256_of(path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_entry_and_a_cache_that_cannot_be_written_cost_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunesmith.files.digests.AT_REST", -1.0)
    path, cache = tmp_path / "weights", tmp_path / "cache"
    path.write_bytes(bytes(WORTH_KEEPING))
    wanted = sha256_of(path, cache)
    (entry,) = (cache / "digests").iterdir()
    for text in ("", "[]", '[1, "x"]', '{"a": 1}', "null"):
        entry.write_text(text)
        assert sha256_of(path, cache) == wanted
    (tmp_path / "file").write_text("")
    assert sha256_of(path, tmp_path / "file") == wanted


# --- the hub ----------------------------------------------------------------------------------
@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    identity.commit_of.cache_clear()
    yield tmp_path
    identity.commit_of.cache_clear()


def test_a_revision_is_the_commit_that_the_cache_holds(hub_cache: Path) -> None:
    refs = hub_cache / "models--house--tiny" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    (refs / "v1").write_text(COMMIT[::-1])
    told = [
        identity.hub(ModelSettings(source=source), hub_cache, sha256_file)
        for source in ("house/tiny", "house/tiny@v1", f"house/tiny@{COMMIT}", "house/other", "house/tiny@v2")
    ]
    assert told == [{"commit": COMMIT}, {"commit": COMMIT[::-1]}, {"commit": COMMIT}, {}, {}]


def test_a_commit_is_asked_of_the_hub_first(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    asked: list[Any] = []

    def model_info(self: Any, name: str, *, revision: str | None, timeout: float) -> Any:
        asked.append((name, revision))
        return type("Info", (), {"sha": COMMIT})

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", model_info)
    assert identity.commit_of("house/tiny", "v1") == identity.commit_of("house/tiny", "v1") == COMMIT
    assert asked == [("house/tiny", "v1")], "asked once, so that what is planned is what is loaded"


def test_a_source_that_tells_no_identity_is_known_by_the_files_that_it_names(
    house: Any, own_model: Path, first_party: Callable[[], Registry], tmp_path: Path
) -> None:
    (house.folder / "house_source.py").write_text(
        "from dataclasses import dataclass\n"
        "from tunesmith import Model, Settings, hookimpl\n\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        'class Own(Settings):\n    source: str\n    """A folder."""\n\n'
        "@hookimpl\ndef tunesmith_models():\n"
        "    yield Model(name='own', summary='x', factory='house_source:load', settings=Own)\n"
    )
    recipe = read(house.folder / "recipe.toml", ["plugins=['./house_source.py']", "model.use=own"])

    def planned() -> str:
        registry = house.make_registry()
        for path in recipe.plugin_files:
            registry.add_file(path)
        return make_plan(recipe, registry).stages[0].fingerprint

    first = planned()
    assert planned() == first
    CHANGES["config.json"](own_model / "config.json")
    assert planned() != first
