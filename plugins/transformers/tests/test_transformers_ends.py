"""End tokens that a model was published with: known with its tokenizer alone, and at work wherever answers end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tokenizers import processors

from tunesmith import Context, Records
from tunesmith.console.talk import Sampling, Talk
from tunesmith.testing.tiny import tiny_tokenizer
from tunesmith_transformers.evaluation.generation import end_tokens
from tunesmith_transformers.loading.model import load, load_tokenizer
from tunesmith_transformers.tokens import cache
from tunesmith_transformers.tokens.ends import end_ids, listed, published_ends
from tunesmith_transformers.training.settings import ModelSettings


@pytest.mark.parametrize(
    ("value", "wanted"), [(7, (7,)), ([7, 258], (7, 258)), (None, ()), ("no", ()), ([True, -1, 3], (3,))]
)
def test_what_a_configuration_lists(value: Any, wanted: tuple[int, ...]) -> None:
    assert listed(value) == wanted


@pytest.mark.parametrize("content", ["", "[]", "{", '{"eos_token_id": null}'])
def test_settings_that_say_nothing_end_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "generation_config.json").write_text(content)
    assert published_ends(tmp_path) == ()


def test_a_tokenizer_alone_and_a_model_know_the_same_ends(tiny_folder: Path, tmp_path: Path, context: Context) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    plain = load_tokenizer(folder, ModelSettings(source=str(folder)), context)[0]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [256, 9999]}))
    tokenizer = load_tokenizer(folder, ModelSettings(source=str(folder)), context)[0]
    assert end_ids(plain) == (257,)
    assert end_ids(tokenizer) == (256, 257)
    handle = load(folder, ModelSettings(source=str(folder)), context, "causal-lm", {})
    assert end_ids(handle.tokenizer) == (256, 257)
    assert handle.model.generation_config.eos_token_id == [256, 257, 9999]
    assert end_tokens(handle.model, handle.tokenizer) == [256, 257, 9999]
    rows = Records([{"text": "a"}], ["r"])
    assert cache.key(rows, plain, {}) != cache.key(rows, tokenizer, {})


def test_a_chat_with_a_base_model_feeds_no_end(tiny_handle: Any) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|im_end|>", special_tokens=[("<|im_end|>", 257)]
    )
    tiny_handle.tokenizer = tokenizer
    seen: list[list[int]] = []
    whole = tiny_handle.model.generate
    tiny_handle.model.generate = lambda **options: seen.append(options["input_ids"].tolist()[0]) or whole(**options)
    Talk(tiny_handle, Sampling(3, 0.0, 0)).ask("ab", lambda text: None)
    assert seen == [tiny_tokenizer()("ab")["input_ids"]]
