"""Models and tokenizers that do not fit: mended and said, or refused before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DATA, MISSING, NUMERICAL, RECIPE = 65, 69, 70, 78
CHAT = [
    {"messages": [{"role": "user", "content": f"{a}?"}, {"role": "assistant", "content": str(a)}]} for a in range(16)
]
NO_GENERATION_TAGS = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
Change = Callable[[Path], None]


def edited(name: str, **keys: Any) -> Change:
    """Change keys of a JSON file; None removes one."""

    def change(folder: Path) -> None:
        path = folder / name
        content = {**json.loads(path.read_text()), **keys}
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return change


def without(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def filled(name: str, content: bytes) -> Change:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def cut(name: str) -> Change:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return change


def with_more_tokens(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(folder)


def not_a_number(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(str(folder / "model.safetensors"))
    next(iter(tensors.values())).fill_(float("nan"))
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})


# --- model folders --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("tokenizer.json"), ("has no tokenizer", "tokenizer.json")),
        (without("config.json"), ("no config.json",)),
        (without("model.safetensors"), ("no weights in safetensors",)),
        (cut("config.json"), ("config.json is damaged",)),
        (filled("config.json", b"[]"), ("config.json is damaged",)),
        (filled("config.json", b"\xff"), ("config.json is damaged",)),
    ],
    ids=["no tokenizer", "no config", "no weights", "cut config", "list as config", "binary config"],
)
def test_a_model_folder_that_is_not_whole(house: Any, change: Change, said: tuple[str, ...]) -> None:
    house.model(change)
    house.recipe()
    message = house.refused(DATA, *said, before_the_run=True)
    assert "where: " in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut("model.safetensors"), ("cannot be loaded",)),
        (cut("tokenizer.json"), ("tokenizer", "cannot be loaded")),
        (filled("tokenizer.json", b"{}"), ("tokenizer", "cannot be loaded")),
        (edited("tokenizer.json", model={"type": "Odd"}), ("tokenizer", "cannot be loaded")),
        (cut("tokenizer_config.json"), ("tokenizer", "cannot be loaded")),
        (edited("config.json", model_type="unheard-of"), ("cannot be loaded",)),
        (edited("config.json", model_type="unheard-of", auto_map={"AutoConfig": "x.Y"}), ("code of its own",)),
        (edited("config.json", num_hidden_layers="two"), ("cannot be loaded",)),
        (edited("config.json", hidden_size=64), ("cannot be loaded",)),
        (edited("config.json", num_hidden_layers=3), ("lack 9 of the model's tensors", "layers.2")),
        (with_more_tokens, ("knows 261 tokens", "embeds only 259")),
        (edited("tokenizer_config.json", eos_token=None), ("no end token",)),
    ],
    ids=[
        "cut weights",
        "cut tokenizer",
        "empty tokenizer",
        "odd tokenizer",
        "cut tokenizer config",
        "unknown type",
        "unknown type with own code",
        "wrong type",
        "other width",
        "more layers",
        "vocabulary larger than the embedding",
        "no end token",
    ],
)
def test_a_model_that_does_not_load(house: Any, change: Change, said: tuple[str, ...]) -> None:
    house.model(change)
    house.recipe()
    assert "where: " in house.refused(DATA, *said)


def test_a_model_that_is_not_there(house: Any) -> None:
    house.recipe({"model.source": "./gone"})
    assert "where: recipe.toml" in house.refused(DATA, "no model folder", before_the_run=True)
    house.recipe({"model.source": "gone.gguf"})
    house.refused(DATA, "gone.gguf", before_the_run=True)
    house.recipe({"model.source": "no model at all"})
    house.refused(MISSING, "'no model at all'", "directory", before_the_run=True)
    house.recipe({"model.source": "nobody/nothing"})
    house.refused(MISSING, "nobody/nothing", "hub")


def test_a_device_that_is_not_there(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    house.recipe({"run.device": "cuda"})
    house.refused(DATA, "torch sees none")


# --- tokenizers -----------------------------------------------------------------------------------
def test_a_tokenizer_without_a_pad_token_is_mended_and_said(house: Any) -> None:
    house.model(edited("tokenizer_config.json", pad_token=None))
    house.recipe()
    ended = house.call("run", "recipe.toml", "--json")
    assert ended.code == 0, ended.err
    assert "no pad token: padding with '<|im_end|>'" in ended.err
    facts = json.loads(ended.out)["stages"]["main"]["facts"]["tokens"]
    assert facts["ends_with_eos"] == facts["rows"] == 36


def test_a_pad_token_that_is_the_end_token_masks_no_end(house: Any) -> None:
    house.recipe()
    plain = json.loads(house.call("run", "recipe.toml", "--json").out)["stages"]["main"]
    house.model(edited("tokenizer_config.json", pad_token="<|im_end|>"))
    house.recipe()
    ended = house.call("run", "recipe.toml", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)["stages"]["main"]
    assert found["facts"] == plain["facts"]
    assert found["training"]["metrics"] == plain["training"]["metrics"]


def test_conversations_for_a_tokenizer_without_a_template(house: Any) -> None:
    house.rows(CHAT)
    house.model(without("chat_template.jinja"))
    house.recipe()
    house.refused(DATA, "no chat template", "chat_template = FILE")


def test_a_template_without_generation_tags_supervises_the_same(house: Any) -> None:
    house.rows(CHAT)
    house.recipe()
    tagged = json.loads(house.call("run", "recipe.toml", "--json").out)["stages"]["main"]["facts"]
    house.model(filled("chat_template.jinja", NO_GENERATION_TAGS.encode()))
    house.recipe()
    ended = house.call("run", "recipe.toml", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["stages"]["main"]["facts"] == tagged


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for message in messages %}{{ message['content'] }}{% endfor %}", "does not end the answer"),
        ("{% if %}", "refuses it"),
        ("{{ raise_exception('no system') }}", "no system"),
        ("{{ messages[0]['nothing']['deeper'] }}", "refuses it"),
    ],
)
def test_a_template_that_cannot_be_followed(house: Any, template: str, said: str) -> None:
    house.rows(CHAT)
    house.write("own.jinja", template)
    house.recipe({"model.chat_template": "own.jinja"})
    house.refused(DATA, said, "rows.jsonl:")


# --- lengths, masks, numbers ------------------------------------------------------------------------
def test_a_maximal_length_that_the_model_does_not_take(house: Any) -> None:
    house.recipe({"trainer.max_length": 5000})
    house.refused(RECIPE, "max_length = 5000", "1024", "[trainer]", before_the_run=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trainer.overlong": "drop"}, "longer than max_length = 1024"),
        ({}, "the prompt alone fills max_length = 1024"),
        ({"trainer.max_length": 3}, "the prompt alone fills max_length = 3"),
    ],
    ids=str,
)
def test_rows_longer_than_the_model_takes(house: Any, changes: dict[str, Any], said: str) -> None:
    house.rows([{"prompt": f"{number}" * 1500, "completion": "x"} for number in range(10, 20)])
    house.content |= {"evaluate": [], "data": {"use": "jsonl", "path": "rows.jsonl"}}
    house.recipe(changes)
    house.refused(DATA, said, "rows.jsonl:")


def test_held_out_rows_longer_than_the_model_takes(house: Any) -> None:
    house.rows([{"prompt": f"{number}" * 1500, "completion": "x"} for number in range(10, 20)])
    house.recipe()
    house.refused(DATA, "none of the 2 held-out rows", "the prompt alone fills max_length = 1024", "rows.jsonl:")


def test_rows_that_are_cut_are_said(house: Any) -> None:
    house.rows([{"prompt": f"{n}?", "completion": "a" * (2000 if n < 9 else 5)} for n in range(100)])
    house.recipe()
    ended = house.call("run", "recipe.toml")
    assert ended.code == 0, ended.err
    assert "truncated" in ended.out + ended.err


def test_rows_that_teach_no_end(house: Any) -> None:
    house.rows([{"prompt": f"{number}?", "completion": "a" * 50} for number in range(16)])
    house.recipe({"trainer.max_length": 45})
    house.refused(DATA, "end token", "max_length")


def test_a_loss_that_is_no_number(house: Any) -> None:
    house.recipe({"trainer.learning_rate": 1e30, "trainer.max_steps": 6, "trainer.max_grad_norm": 0.0})
    house.refused(NUMERICAL, "at step", "stopped before the update", "last good checkpoint")


def test_a_model_whose_weights_are_no_numbers(house: Any) -> None:
    house.model(not_a_number)
    house.recipe()
    house.refused(NUMERICAL, "nan")


def test_a_reward_model_of_an_earlier_run_is_made_anew_for_another_base(house: Any) -> None:
    """What its source holds is another model by now, so that nothing of the earlier run is that of this one."""
    from tunesmith.testing.tiny import tiny_folder

    house.model(lambda folder: None)
    rows = [{"prompt": f"{a}=", "chosen": str(a), "rejected": "no"} for a in range(16)]
    house.rows(rows, "pairs.jsonl")
    house.rows([{"prompt": row["prompt"]} for row in rows], "prompts.jsonl")
    common = {"model": {"source": house.content["model"]["source"]}, "adapter": {"use": "lora", "rank": 2}}
    ppo = {"use": "ppo", "max_steps": 1, "batch_size": 4, "max_new_tokens": 2}
    house.content = {
        "run": house.content["run"],
        "stages": {
            "reward": {
                **common,
                "data": {"use": "jsonl", "path": "pairs.jsonl"},
                "trainer": {"use": "reward", "max_steps": 1},
            },
            "ppo": {
                **common,
                "models": {"reward": {"from": "reward"}},
                "data": {"use": "jsonl", "path": "prompts.jsonl"},
                "trainer": ppo,
            },
        },
    }
    ended = house.call("run", house.recipe())
    assert ended.code == 0, ended.err
    other = tiny_folder(house.folder / "other", seed=5)
    (house.folder / "model" / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    ended = house.call("run", house.recipe({"stages.ppo.trainer.max_steps": 2}))
    assert ended.code == 0, ended.err
    assert "unchanged, taken from" not in ended.err
    ended = house.call("run", house.recipe({"stages.ppo.trainer.max_steps": 3}))
    assert ended.code == 0, ended.err
    assert "stage reward: unchanged, taken from" in ended.err
