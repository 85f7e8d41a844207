"""`tunesmith chat RUN --adapter OTHER`: the adapters of several runs on one base."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

ASK = ("--prompt", "3+4=", "--max-new-tokens", "4")


@pytest.fixture
def runs(house: Any) -> Path:
    """Two runs over one base, of other methods: `recipe-001` and `recipe-002`."""
    house.rows([{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(6) for b in range(4)])
    for adapter in ({"use": "lora", "rank": 4}, {"use": "loha", "rank": 4}):
        ended = house.call("run", house.recipe({"adapter": adapter, "trainer.learning_rate": 0.3}))
        assert ended.code == 0, ended.err
    return house.runs


def answer(house: Any, *words: Any) -> dict[str, Any]:
    outcome = house.call("chat", *words, *ASK, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def test_each_adapter_answers_as_its_run_does(house: Any, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = sorted(path for path in runs.iterdir() if path.is_dir())
    alone = {one.name: answer(house, one)["answer"], two.name: answer(house, two)["answer"]}
    base = answer(house, one, "--base")["answer"]
    assert len({*alone.values(), base}) == 3
    together = answer(house, one, "--adapter", two)
    assert together["answers"] == {**alone, "base": base}
    assert together["answer"] == alone[one.name]
    (house.folder / "base").symlink_to(one)  # with one voice there is nothing to mistake it for
    assert answer(house, "base")["answer"] == alone[one.name]
    assert answer(house, two, "--adapter", f"sums={one}", "--base")["answer"] == base

    said = house.call("chat", one, "--adapter", two, *ASK)
    assert [line for line in said.out.splitlines() if line in (f"{one.name}:", f"{two.name}:", "base:")] == [
        f"{one.name}:",
        f"{two.name}:",
        "base:",
    ]

    talk = f"3+4=\n/adapter base\n/reset\n3+4=\n/adapter {two.name}\n/reset\n3+4=\n/adapter nobody\n\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(talk))
    heard = house.call("chat", one, "--adapter", two, *ASK[2:])
    assert heard.code == 0, heard.err
    assert heard.out == f"{alone[one.name]}\n{base}\n{alone[two.name]}\n"
    assert "there is no adapter 'nobody'" in heard.err


def test_an_adapter_of_another_base_is_refused_in_one_sentence(house: Any, runs: Path) -> None:
    from tunesmith.testing.tiny import tiny_folder

    one = sorted(path for path in runs.iterdir() if path.is_dir())[0]
    other = tiny_folder(house.folder / "other-model", seed=5)
    assert house.call("run", house.recipe({"adapter.use": "lora", "model.source": str(other)})).code == 0
    third = sorted(path for path in runs.iterdir() if path.is_dir())[-1]
    outcome = house.call("chat", one, "--adapter", third, *ASK)
    assert outcome.code == 65
    assert "made for another base model" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("run", "other", "said"),
    [
        ("a-001", "base=b-001", "--adapter base=b-001: 'base' is how the base model is called"),
        ("a-001", "runs/base", "Write --adapter NAME=runs/base."),
        ("a-001", "runs/base/artifact", "'base' is how the base model is called"),
        ("base", "b-001", "--adapter NAME=base"),
    ],
)
def test_the_name_of_the_base_is_refused_before_anything_is_loaded(run: str, other: str, said: str) -> None:
    from tunesmith import Context, Registry, UsageError
    from tunesmith.console.voices import open_voices

    with pytest.raises(UsageError) as caught:
        open_voices(Path(run), Path("gone"), [other], Registry(), Context(), base=False)
    assert said in str(caught.value)


def test_two_adapters_of_one_name_are_refused(house: Any, runs: Path) -> None:
    one = sorted(path for path in runs.iterdir() if path.is_dir())[0]
    outcome = house.call("chat", one, "--adapter", one, *ASK)
    assert outcome.code == 2
    assert "another name" in outcome.err


def test_the_code_of_the_page_runs(house: Any, runs: Path) -> None:
    import torch

    page = (Path(__file__).parents[1] / "docs" / "how-to" / "several-adapters.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(code, names)
    first, second, base = (names["logits"][name] for name in ("first", "second", "base"))
    assert first.shape == second.shape == base.shape
    assert not torch.equal(first, second)
    assert not torch.equal(first, base)
    assert names["adapters"].active == "second"


def test_the_base_of_a_run_is_refused_when_it_is_another_one_now(house: Any) -> None:
    from tunesmith.testing.tiny import tiny_folder

    house.model(lambda folder: None)
    assert house.call("run", house.recipe()).code == 0
    (run,) = house.runs.iterdir()
    assert house.call("chat", run, "--base", *ASK).code == 0
    other = tiny_folder(house.folder / "other-model", seed=5)
    (house.folder / "model" / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    outcome = house.call("chat", run, "--base", *ASK)
    assert outcome.code == 65
    assert "made for another base model" in outcome.err
