"""Artifacts: a model comes back as it was kept, or the reason is said."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith import (
    Adapter,
    Context,
    DataError,
    MissingError,
    PluginError,
    RecipeError,
    Registry,
    TunesmithError,
    hookimpl,
)
from tunesmith.artifact import CARD, Line, commit, load_artifact, load_base, read_card, read_line
from tunesmith.plan import make_plan
from tunesmith.recipe import Recipe
from tunesmith.store import DIGESTS, damage, digests_of

TOY = Path(__file__).with_name("toy_core.py")


@pytest.fixture
def toys() -> Iterator[Registry]:
    registry = Registry()
    registry.add_file(TOY)
    yield registry
    faults().clear()


def faults() -> dict[str, Any]:
    return sys.modules["tunesmith_local_toy_core"].FAULTS


@pytest.fixture
def line(tmp_path: Path, toys: Registry) -> Line:
    (tmp_path / "base.txt").write_text("0.25")
    tree = {
        "model": {"source": "toy:base.txt"},
        "data": {"use": "rows"},
        "adapter": {"use": "shift", "rank": 3},
        "quantizer": {"use": "rough"},
        "trainer": {"use": "pull"},
    }
    role = make_plan(Recipe(tree, base=tmp_path), toys).stages[0].main_role
    return Line(role.role.head, tmp_path, role.model, role.quantizer, role.adapter)


@pytest.fixture
def kept(tmp_path: Path, toys: Registry, line: Line) -> Path:
    context = Context(folder=tmp_path)
    adapted = line.adapter.call(load_base(line, toys, context), line.adapter.settings, context)  # type: ignore[union-attr]
    adapted.model.shift.value = 0.5
    return commit(tmp_path / "artifact", line, adapted, {"run": "r-001", "stage": "main"}, "# card\n")


def rewrite(artifact: Path, **changes: Any) -> None:
    """Change the card, and the digests so that only its meaning is wrong."""
    card = read_card(artifact)
    (artifact / CARD).write_text(json.dumps({**card, **changes}))
    (artifact / DIGESTS).unlink()
    (artifact / DIGESTS).write_text(json.dumps(digests_of(artifact)))


def test_a_model_comes_back_from_another_folder(kept: Path, toys: Registry, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "copy"
    moved.parent.mkdir()
    kept.rename(moved)
    adapted = load_artifact(moved, toys, Context(folder=moved))
    assert adapted.model.value == 0.75
    assert adapted.handle.quantized == "rough"
    assert (moved / "README.md").read_text() == "# card\n"


def test_the_card_says_how_the_model_was_made(kept: Path, toys: Registry, line: Line) -> None:
    card = read_card(kept)
    assert (card["format"], card["run"], card["stage"]) == (1, "r-001", "main")
    assert card["base"]["quantized"] == "rough"
    assert card["line"] == json.loads(json.dumps(line.describe()))
    again = read_line(kept, toys)
    assert again.adapter is not None
    assert again.adapter.settings == line.adapter.settings  # type: ignore[union-attr]
    assert (again.head, again.folder, again.parent) == (line.head, line.folder, None)


def test_the_base_is_frozen_when_it_is_loaded(line: Line, toys: Registry) -> None:
    handle = load_base(line, toys, Context())
    assert [parameter.requires_grad for parameter in handle.model.parameters()] == [False, False]


def test_another_base_is_refused(kept: Path, toys: Registry, tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text("0.26")
    with pytest.raises(DataError, match="was made for another base model") as caught:
        load_artifact(kept, toys, Context())
    assert caught.value.details[0].startswith("made for ")
    (tmp_path / "base.txt").write_text("0.25")
    load_artifact(kept, toys, Context())


@pytest.mark.parametrize("name", ["shift.json", CARD, "README.md", DIGESTS])
@pytest.mark.parametrize("how", ["cut", "flipped", "gone"])
def test_damaged_files_are_refused_before_anything_is_loaded(name: str, how: str, kept: Path, toys: Registry) -> None:
    path = kept / name
    content = bytearray(path.read_bytes())
    content[0] ^= 4
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:1] if how == "cut" else content)
    module = sys.modules["tunesmith_local_toy_core"]
    module.SEEN.clear()
    with pytest.raises(TunesmithError, match="is damaged") as caught:
        load_artifact(kept, toys, Context())
    assert any(line.startswith(name) for line in caught.value.details)
    assert module.SEEN == []


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"line": 3}', '{"line": {}}'])
def test_other_folders_are_no_artifacts(content: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not an artifact of Tunesmith"):
        read_card(tmp_path)
    (tmp_path / CARD).write_text(content)
    with pytest.raises(DataError, match="is not an artifact of Tunesmith"):
        read_card(tmp_path)


def test_a_missing_plugin_is_named_with_the_artifact(kept: Path) -> None:
    with pytest.raises(MissingError, match="there is no model named 'toy' here") as caught:
        load_artifact(kept, Registry(), Context())
    assert str(kept / CARD) in str(caught.value)


class House:
    """Offers a `shift` of its own."""

    @hookimpl
    def tunesmith_adapters(self) -> Iterator[Adapter]:
        shift = sys.modules["tunesmith_local_toy_core"].ShiftSettings
        yield Adapter(
            name="shift", summary="Another", factory=lambda *_: pytest.fail("the wrong plugin"), settings=shift
        )


def test_of_two_plugins_with_one_name_the_one_that_made_it_is_taken(kept: Path, toys: Registry) -> None:
    toys.add(House(), name="house", distribution="tunesmith-house")
    assert load_artifact(kept, toys, Context()).model.value == 0.75
    line = read_card(kept)["line"]
    line["adapter"]["distribution"] = "tunesmith-house"
    rewrite(kept, line=line)
    found = read_line(kept, toys).adapter
    assert found is not None
    assert found.qualified == "house/shift"


def test_a_plugin_of_another_distribution_will_do_where_it_is_the_only_one(kept: Path, toys: Registry) -> None:
    line = read_card(kept)["line"]
    line["adapter"]["distribution"] = "tunesmith-earlier"
    rewrite(kept, line=line)
    assert load_artifact(kept, toys, Context()).model.value == 0.75
    toys.add(House(), name="house", distribution="tunesmith-house")
    with pytest.raises(RecipeError, match="2 plugins offer the adapter 'shift'"):
        load_artifact(kept, toys, Context())


def test_settings_that_the_plugin_no_longer_takes_are_named(kept: Path, toys: Registry) -> None:
    line = read_card(kept)["line"]
    line["adapter"]["settings"]["alpha"] = 3
    rewrite(kept, line=line)
    assert damage(kept) == []
    with pytest.raises(RecipeError, match="unknown setting 'alpha'") as caught:
        load_artifact(kept, toys, Context())
    assert CARD in str(caught.value.where)


@pytest.mark.parametrize("base", [{}, 3, None])
def test_a_card_without_its_base_is_no_artifact(base: object, kept: Path, toys: Registry) -> None:
    rewrite(kept, base=base)
    with pytest.raises(DataError, match="is not an artifact of Tunesmith"):
        load_artifact(kept, toys, Context())


@pytest.mark.parametrize("place", ["load", "adapter", "model", "quantizer"])
def test_a_plugin_that_fails_on_the_way_back_is_named(place: str, kept: Path, toys: Registry) -> None:
    def fail() -> None:
        raise KeyError("oops")

    faults()[place] = fail
    with pytest.raises(PluginError, match=r"'(shift|toy|rough)' of local \w+ failed: KeyError: 'oops'"):
        load_artifact(kept, toys, Context())


def test_an_adapter_that_cannot_be_saved_leaves_the_old_artifact(
    kept: Path, toys: Registry, line: Line, tmp_path: Path
) -> None:
    adapted = load_artifact(kept, toys, Context())

    def fail() -> None:
        raise OSError(28, "No space left on device")

    faults()["save"] = fail
    with pytest.raises(TunesmithError) as caught:
        commit(kept, line, adapted, {}, "")
    assert caught.value.exit_code == 74
    assert damage(kept) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
