"""What every test here starts from, and whole runs in this process, on the tiny model."""

from __future__ import annotations

import importlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Registry, Stopped, hookimpl
from tunesmith.context import SilentReporter
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.run import Run, resume, start

# pytest-xdist tells its workers a terminal's width, and the console would wrap its messages to it
os.environ.pop("COLUMNS", None)

ROWS = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(8) for b in range(6)]


FIRST_PARTY = ("data", "full", "lora", "sft", "transformers")


@pytest.fixture
def first_party(request: pytest.FixtureRequest) -> Callable[[], Registry]:
    """Makes a registry of the plugins that a run needs and of the one whose tests these are."""
    own = request.path.relative_to(Path(__file__).parent).parts[1].replace("-", "_")  # plugins/NAME, contrib/NAME
    modules = [importlib.import_module(f"tunesmith_{name}") for name in sorted({*FIRST_PARTY, own})]

    def make() -> Registry:
        registry = Registry()
        for module in modules:
            registry.add(module, distribution=module.__name__.replace("_", "-"), version="0.1.0")
        assert not registry.problems
        return registry

    return make


@pytest.fixture
def experts_folder(tmp_path: Path) -> Path:
    """A folder with a tiny mixture of four experts, whose balancing loss weighs one half."""
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    from tunesmith.testing.tiny import tiny_tokenizer

    config = MixtralConfig(
        vocab_size=259, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=1024,
        initializer_range=0.2, bos_token_id=None, eos_token_id=257, pad_token_id=258, router_aux_loss_coef=0.5,
        dtype="float32", sliding_window=None,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        MixtralForCausalLM(config).float().save_pretrained(tmp_path / "experts")
    tiny_tokenizer().save_pretrained(tmp_path / "experts")
    return tmp_path / "experts"


class SignalAt:
    """An observer that sends this process a signal after a step."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step = step
        self.number = number

    @hookimpl
    def tunesmith_step(self, step: int) -> None:
        if step == self.step:
            os.kill(os.getpid(), self.number)


class House:
    """A folder with a recipe, rows and runs."""

    def __init__(self, folder: Path, model: Path, make_registry: Callable[[], Registry]) -> None:
        self.folder = folder
        self.make_registry = make_registry
        self.rows(ROWS)
        (folder / "recipe.toml").write_text(
            f"""
            [run]
            folder = {json.dumps(str(folder / "runs"))}
            device = "cpu"
            [model]
            source = {json.dumps(str(model))}
            [data]
            use = "jsonl"
            path = "rows.jsonl"
            validation = 0.25
            [adapter]
            use = "lora"
            rank = 4
            dropout = 0.1
            [trainer]
            use = "sft"
            learning_rate = 0.01
            batch_size = 4
            max_steps = 6
            save_steps = 2
            [[evaluate]]
            use = "perplexity"
            """
        )

    def rows(self, rows: list[dict[str, Any]]) -> None:
        (self.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(self, *sets: str, plugins: tuple[Any, ...] = ()) -> Run:
        registry = self.make_registry()
        for plugin in plugins:
            registry.add(plugin, name="test-observer")
        plan = make_plan(read(self.folder / "recipe.toml", sets), registry)
        return start(plan, registry, SilentReporter())

    def stopped(self, step: int, *sets: str) -> Path:
        """The folder of a run that got SIGTERM after `step`."""
        with pytest.raises(Stopped) as stopped:
            self.run(*sets, plugins=(SignalAt(step),))
        assert stopped.value.exit_code == 143
        return self.newest()

    def resume(self, run: Path) -> Run:
        return resume(run, self.make_registry(), SilentReporter())

    def newest(self) -> Path:
        return max((self.folder / "runs").iterdir(), key=lambda path: path.name)


@pytest.fixture
def house(
    tmp_path: Path, tiny_folder: Path, first_party: Callable[[], Registry], monkeypatch: pytest.MonkeyPatch
) -> House:
    monkeypatch.setattr("gc.collect", lambda: 0)  # half a second a call on a heap that holds torch
    return House(tmp_path, tiny_folder, first_party)


class Answering:
    """Runs in a house of a trainer on its own answers: its settings, and what single runs change.

    Args:
        settings: of [trainer]; None in a run leaves one out.
        rewards: the text of `reward.py` beside the recipe.
    """

    def __init__(self, house: House, settings: dict[str, Any], rewards: str, rows: list[dict[str, Any]]) -> None:
        self.house = house
        self.settings = settings
        house.rows(rows)
        (house.folder / "reward.py").write_text(rewards)

    def sets(self, *more: str, **settings: Any) -> tuple[str, ...]:
        values = {key: value for key, value in {**self.settings, **settings}.items() if value is not None}
        table = ",".join(f"{key}={json.dumps(value)}" for key, value in values.items())
        return (f"trainer={{{table}}}", "evaluate=[]", "data.validation=0", *more)

    def run(self, *more: str, **settings: Any) -> Run:
        return self.house.run(*self.sets(*more, **settings))

    @staticmethod
    def logged(run: Path) -> list[dict[str, Any]]:
        """What is logged of every step, but not when."""
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if key not in ("time", "seconds")} for line in lines]

    @staticmethod
    def trained(run: Path) -> dict[str, Any]:
        """The tensors of the adapter that a run made."""
        from safetensors.torch import load_file

        return load_file(str(run / "artifact" / "adapter_model.safetensors"))

    @staticmethod
    def weights(run: Path) -> bytes:
        """The same as it lies on the disk."""
        return (run / "artifact" / "adapter_model.safetensors").read_bytes()


@pytest.fixture
def answering(house: House) -> Callable[..., Answering]:
    """Makes `Answering` runs in the house."""
    return lambda *given: Answering(house, *given)
