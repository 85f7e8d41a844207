"""Records check themselves when they are built, and resolve their factories when they are used."""

from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Adapter, Component, Evaluator, Loader, MissingError, Model, Role, Settings, Trainer
from tunesmith.spec import KINDS


@dataclass(frozen=True, kw_only=True)
class Good(Settings):
    rank: int = 1
    """Rank."""


class Bare(Settings):
    rank: int = 1


def adapter(**changes: Any) -> Adapter:
    return Adapter(**{"name": "mine", "summary": "My method", "factory": "a.b:c", **changes})


@pytest.mark.parametrize("name", ["Mine", "my method", "-mine", "mine-", "my--x", "", "my_method", "mine\n", 3, None])
def test_names_are_kebab_case(name: object) -> None:
    with pytest.raises(ValueError, match="kebab-case"):
        adapter(name=name)


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        ((Role(name="judge", trainable=True),), "'judge' must be frozen"),
        ((Role(name="judge"), Role(name="other", default="judge:disabled")), "'other' must be frozen and without"),
        ((Role(name="judge"), Role(name="judge")), "two of its roles have one name"),
    ],
)
def test_an_evaluator_s_models_are_frozen_and_named_once(roles: tuple[Role, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Evaluator(name="mine", summary="Mine", factory="a.b:c", roles=roles)


@pytest.mark.parametrize("summary", ["", "  ", "two\nlines", None])
def test_a_summary_is_one_line(summary: object) -> None:
    with pytest.raises(ValueError, match="one non-empty line"):
        adapter(summary=summary)


@pytest.mark.parametrize("option", ["factory", "check", "formula"])
@pytest.mark.parametrize("reference", ["module", "a.b.c", "a:b:c", ":c", "a b:c", 5])
def test_references_read_module_colon_name(option: str, reference: object) -> None:
    with pytest.raises(ValueError, match=r"package\.module:callable"):
        adapter(**{option: reference})


def test_a_record_may_hold_the_function_itself() -> None:
    assert adapter(factory=len).resolve() is len


def test_a_factory_is_needed() -> None:
    with pytest.raises(ValueError, match="factory is missing"):
        adapter(factory="")


@pytest.mark.parametrize("requires", ["peft", ("peft", 3)])
def test_requires_is_a_tuple_of_names(requires: object) -> None:
    with pytest.raises(TypeError, match="tuple of import names"):
        adapter(requires=requires)


@pytest.mark.parametrize("settings", [dict, Good(), "Good"])
def test_settings_derive_the_base_class(settings: object) -> None:
    with pytest.raises(TypeError, match=r"derives tunesmith\.Settings"):
        adapter(settings=settings)


def test_a_forgotten_dataclass_decorator_is_named() -> None:
    with pytest.raises(TypeError, match=r"decorate Bare with @dataclass\(frozen=True, kw_only=True\)"):
        adapter(settings=Bare)


def test_a_bare_component_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Component(name="x", summary="x", factory="a:b")


def test_records_and_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        adapter().name = "other"  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        Good().rank = 2  # type: ignore[misc]


def test_every_kind_is_known_by_its_name() -> None:
    kinds = [
        "loader",
        "step",
        "model",
        "quantizer",
        "adapter",
        "trainer",
        "evaluator",
        "exporter",
        "launcher",
        "preset",
        "searcher",
    ]
    assert list(KINDS) == kinds
    assert all(record.kind == name for name, record in KINDS.items())


def test_a_model_claims_nothing_by_default() -> None:
    assert Model(name="m", summary="s", factory="a:b").claims("x", Path()) == 0


def test_trainers_check_record_types_and_roles() -> None:
    def trainer(**changes: Any) -> Trainer:
        return Trainer(name="t", summary="s", factory="a:b", **changes)

    policy = Role(name="policy", trainable=True)
    with pytest.raises(ValueError, match=r"unknown record types \['pairs'\]"):
        trainer(accepts=("pairs",))
    with pytest.raises(ValueError, match="at least one role must be trainable"):
        trainer(roles=(Role(name="reference"),))
    with pytest.raises(ValueError, match="two roles are called 'policy'"):
        trainer(roles=(policy, policy))
    for default in ("later:disabled", "policy", "policy:enabled", "reference:disabled"):
        with pytest.raises(ValueError, match="a role that stands before it"):
            trainer(roles=(policy, Role(name="reference", default=default), Role(name="later")))
    with pytest.raises(ValueError, match="its first role, which is kept, cannot be optional"):
        trainer(roles=(Role(name="policy", trainable=True, optional=True),))
    assert trainer(roles=(policy, Role(name="reference", default="policy:disabled"))).roles[1].head == "causal-lm"


# --- resolving --------------------------------------------------------------------------------
def write_module(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_the_factory_is_imported_at_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path, "spec_lazy", "def load(): return 7\n", monkeypatch)
    record = Loader(name="x", summary="s", factory="spec_lazy:load")
    assert "spec_lazy" not in sys.modules
    assert record.resolve()() == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "AttributeError"),
        ("load = 3", "is not callable"),
        ("import no_such_module_here", "No module named 'no_such_module_here'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def broken(:", "SyntaxError"),
    ],
)
def test_a_factory_that_cannot_be_had_is_named(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "spec_broken", text, monkeypatch)
    with pytest.raises(MissingError, match="spec_broken:load") as caught:
        Loader(name="x", summary="s", factory="spec_broken:load").resolve()
    assert expected in str(caught.value)
    assert "loader 'x'" in str(caught.value)
