"""Every kind of new package: it passes the checks, and its component does what it says."""

from __future__ import annotations

import ast
import importlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import tomli

from tunesmith import (
    Adapted,
    Context,
    DataError,
    Dataset,
    Evaluation,
    ModelHandle,
    Quantization,
    Records,
    Registry,
    StopFlag,
    TrainResult,
    UsageError,
)
from tunesmith.adapted import ModuleAdapted
from tunesmith.recipe import Recipe, check_settings, expand, read
from tunesmith.spec import KINDS, Component
from tunesmith.testing import check_plugin
from tunesmith.testing.check import failures
from tunesmith.testing.scaffold import write_file, write_package

TEXT = Dataset(
    type="text",
    train=Records([{"text": "one two three"}, {"text": "four five"}, {"text": "six"}], ["a", "b", "c"]),
    validation=Records([{"text": "seven eight"}, {"text": "nine ten eleven"}], ["d", "e"]),
)


class Made:
    """A new package of one kind, imported."""

    def __init__(self, kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        name = f"tunesmith-new-{kind}"
        self.files = write_package(folder, name, kind)
        monkeypatch.syspath_prepend(str(folder))
        self.registry = Registry()
        self.registry.add(importlib.import_module(name.replace("-", "_")))
        assert self.registry.problems == []
        self.component: Component = self.registry.find(kind, f"new-{kind}").component

    def settings(self, **given: Any) -> Any:
        return check_settings(self.component.settings, given, Recipe({}), ())

    def call(self, *arguments: Any) -> Any:
        return self.component.resolve()(*arguments)


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda kind: Made(kind, tmp_path / kind, monkeypatch)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_new_package_passes_its_checks(kind: str, make: Any) -> None:
    made = make(kind)
    assert failures(check_plugin(f"new-{kind}", made.registry)) == []


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_new_package_is_whole(kind: str, tmp_path: Path) -> None:
    files = write_package(tmp_path / "p", "tunesmith-mymethod", kind)
    assert sorted(files) == sorted(path for path in (tmp_path / "p").rglob("*") if path.is_file())
    project = tomli.loads((tmp_path / "p/pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["tunesmith"] == {"mymethod": "tunesmith_mymethod"}
    recipe = read(tmp_path / "p/recipe.toml")
    assert "mymethod" in recipe.to_toml()
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert "$" not in text, path
        if path.suffix == ".py":
            ast.parse(text)
            assert max(map(len, text.splitlines())) <= 120, path


def test_the_adapter_package_is_at_most_forty_lines(tmp_path: Path) -> None:
    files = write_package(tmp_path / "p", "tunesmith-mymethod", "adapter")
    lines = [line for path in files if path.parent.name == "tunesmith_mymethod" for line in path.open(encoding="utf-8")]
    assert 10 < len(lines) <= 40


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("tunesmith-mymethod", "adaptor", "Did you mean 'adapter'"),
        ("tunesmith-mymethod", "zzz", "There are: loader"),
        ("My_Method", "adapter", "lower-case words"),
        ("tunesmith", "adapter", "lower-case words"),
        ("../up", "adapter", "lower-case words"),
    ],
)
def test_what_cannot_be_written_is_refused(name: str, kind: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        write_package(tmp_path / "p", name, kind)
    assert not (tmp_path / "p").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="there already"):
        write_package(tmp_path / "p", "tunesmith-mymethod", "adapter")
    with pytest.raises(UsageError, match="there already"):
        write_file(tmp_path / "p/notes.txt")
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["notes.txt"]


# --- what each kind does ----------------------------------------------------------------------
def test_loader_reads_lines_and_accounts_for_each(make: Any, context: Context) -> None:
    loader = make("loader")
    (context.folder / "t.txt").write_bytes("\ufeffone\r\n\r\ntwo\nthree\nfour\n".encode())
    data = loader.call(loader.settings(path="t.txt", validation=0.5), context)
    assert sorted(row["text"] for _, row in [*data.train, *data.validation]) == ["four", "one", "three", "two"]
    assert (len(data.train), len(data.validation)) == (2, 2)
    assert context.ledger.examples() == ["1 x empty line: t.txt:2"]
    assert context.ledger.rows_in == 5


@pytest.mark.parametrize(("content", "says"), [(None, "no such text file"), (b"a\xff", "not UTF-8")])
def test_loader_refuses_what_it_cannot_read(content: bytes | None, says: str, make: Any, context: Context) -> None:
    loader = make("loader")
    if content is not None:
        (context.folder / "t.txt").write_bytes(content)
    with pytest.raises(DataError, match=says):
        loader.call(loader.settings(path="t.txt"), context)


def test_model_has_the_weights_of_its_seed(make: Any, context: Context, tiny_folder: Path) -> None:
    source = make("model")
    name = f"untrained:{tiny_folder}"
    assert source.component.claims(name, Path()) > source.component.claims("folder", Path())
    first, again, other = (
        source.call(source.settings(source=name, seed=seed), context, "causal-lm", {}) for seed in (1, 1, 2)
    )
    assert isinstance(first, ModelHandle)
    assert first.digest == again.digest != other.digest
    with pytest.raises(DataError, match=r"no config\.json"):
        source.call(source.settings(source="untrained:nowhere"), context, "causal-lm", {})


def test_quantizer_leaves_so_many_levels(make: Any, context: Context, tiny_handle: ModelHandle) -> None:
    quantizer = make("quantizer")
    head = tiny_handle.model.lm_head.weight.clone()
    before = tiny_handle.model.model.layers[0].mlp.up_proj.weight.clone()
    made = quantizer.call(quantizer.settings(bits=3), context)
    assert isinstance(made, Quantization)
    after = made.after_load(tiny_handle).model.model.layers[0].mlp.up_proj.weight
    assert max(len(row.unique()) for row in after) <= 7
    step = before.abs().amax(dim=1, keepdim=True) / 3
    assert ((after - before).abs() <= step / 2 * 1.001).all()
    assert tiny_handle.model.lm_head.weight.equal(head)


def test_evaluator_counts_right_guesses(make: Any, context: Context, tiny_handle: ModelHandle) -> None:
    evaluator = make("evaluator")
    found = evaluator.call(tiny_handle, TEXT, evaluator.settings(), context)
    assert isinstance(found, Evaluation)
    measure = found.measures["new-evaluator"]
    shares = []
    for _, row in TEXT.validation:
        ids = tiny_handle.tokenizer(row["text"], return_tensors="pt")["input_ids"]
        guesses = tiny_handle.model(input_ids=ids).logits.argmax(-1)[0].tolist()
        pairs = list(zip(guesses[:-1], ids[0].tolist()[1:], strict=True))
        shares.append(sum(guess == right for guess, right in pairs) / len(pairs))
    assert measure.per_row == pytest.approx(shares)
    assert measure.n == 2
    assert measure.low is not None
    assert measure.low <= measure.value


class StopAfter:
    """A reporter that asks for a stop after some steps, as a signal would."""

    def __init__(self, steps: int, stop: StopFlag) -> None:
        self.steps, self.stop = steps, stop

    def progress(self, step: int, total: int, metrics: dict[str, float]) -> None:
        if step == self.steps:
            self.stop.set(15)

    def phase(self, name: str) -> None: ...

    def say(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...


def test_trainer_stops_and_resumes_to_the_same_bits(make: Any, context: Context, tiny_handle: ModelHandle) -> None:
    import copy

    trainer = make("trainer")
    settings = trainer.settings(max_steps=6, save_steps=4)

    def fresh() -> Adapted:
        handle = copy.deepcopy(tiny_handle)
        handle.model.lm_head.requires_grad_(True)
        return ModuleAdapted(handle)

    whole = fresh()
    result = trainer.call({"model": whole}, TEXT, settings, context.with_(stage_folder=context.cache))
    assert isinstance(result, TrainResult)
    assert (result.steps, result.total_steps, result.stopped) == (6, 6, None)
    assert context.ledger.dropped == 0

    stop = StopFlag()
    stopped = trainer.call({"model": fresh()}, TEXT, settings, context.with_(stop=stop, reporter=StopAfter(3, stop)))
    assert (stopped.steps, stopped.stopped) == (3, 15)
    again = fresh()
    resumed = trainer.call({"model": again}, TEXT, settings, context.with_(resume=True))
    assert (resumed.steps, resumed.stopped) == (6, None)
    assert again.model.lm_head.weight.equal(whole.model.lm_head.weight)
    assert not again.model.lm_head.weight.equal(tiny_handle.model.lm_head.weight)

    other = context.with_(resume=True, identity={"fingerprint": "another"})
    with pytest.raises(DataError, match="another run"):
        trainer.call({"model": fresh()}, TEXT, settings, other)


def test_trainer_follows_the_rate_of_every_step(make: Any, context: Context, tiny_handle: ModelHandle) -> None:
    trainer = make("trainer")
    assert trainer.component.rate == "learning_rate"
    rates: list[float] = []

    class Rates(StopAfter):
        def progress(self, step: int, total: int, metrics: dict[str, float]) -> None:
            rates.append(metrics["learning_rate"])

    tiny_handle.model.lm_head.requires_grad_(True)
    weight = tiny_handle.model.lm_head.weight.clone()
    factors = [0.0, 0.0, 0.5]
    for steps in (2, 3):
        within = context.with_(
            reporter=Rates(0, StopFlag()), schedule=factors.__getitem__, stage_folder=context.cache / str(steps)
        )
        settings = trainer.settings(max_steps=steps, learning_rate=0.01)
        trainer.call({"model": ModuleAdapted(tiny_handle)}, TEXT, settings, within)
        assert tiny_handle.model.lm_head.weight.equal(weight) == (steps == 2)
    assert rates == pytest.approx([0.0, 0.0, 0.0, 0.0, 0.005])


def test_exporter_packs_the_artifact(make: Any, context: Context, tmp_path: Path) -> None:
    exporter = make("exporter")
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact/card.json").write_text("{}")
    packed = exporter.call(tmp_path / "artifact", exporter.settings(), context)
    assert zipfile.ZipFile(packed).read("card.json") == b"{}"


def test_launcher_runs_the_plan_here(make: Any, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = make("launcher")
    module = importlib.import_module("tunesmith_new_launcher.launcher")
    called: list[Any] = []
    monkeypatch.setattr(module.os, "nice", called.append)
    monkeypatch.setattr(module, "start", lambda plan, registry, reporter: called.append(plan))

    class Plan:
        recipe = Recipe({})

    plan = Plan()
    assert launcher.call(plan, launcher.settings(niceness=5), context) == 0
    assert called == [5, plan]


def test_preset_is_laid_below_the_recipe(make: Any, tmp_path: Path) -> None:
    preset = make("preset")
    path = tmp_path / "r.toml"
    path.write_text('preset = { use = "new-preset", steps = 5 }\n[trainer]\nlearning_rate = 0.1\n')
    tree = expand(read(path), preset.registry).tree
    assert tree["trainer"] == {"learning_rate": 0.1, "use": "sft", "max_steps": 5}
    assert tree["adapter"] == {"use": "lora", "rank": 4}
