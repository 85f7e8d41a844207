"""The tiny model, the fixtures, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Context, ModelHandle, Registry
from tunesmith.testing import tiny_tokenizer
from tunesmith.testing.scaffold import write_file
from tunesmith.testing.tiny import weights_digest


def test_importing_the_kit_imports_no_heavy_library() -> None:
    code = (
        "import sys, tunesmith.testing, tunesmith.testing.plugin, tunesmith.testing.scaffold\n"
        "print([name for name in ('torch', 'transformers', 'numpy', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there_and_others_are_not() -> None:
    import tunesmith.testing

    assert all(getattr(tunesmith.testing, name) is not None for name in tunesmith.testing.__all__)
    with pytest.raises(AttributeError, match="no_such"):
        tunesmith.testing.no_such  # noqa: B018


def test_checking_leaves_generators_and_threads_as_they_were(tmp_path: Path, check_plugin: Any) -> None:
    import random

    import numpy
    import torch

    def drawn() -> tuple[float, float, float, int]:
        return random.random(), float(numpy.random.rand()), float(torch.rand(1)), torch.get_num_threads()

    random.seed(1)
    numpy.random.seed(1)
    torch.manual_seed(1)
    expected = drawn()
    random.seed(1)
    numpy.random.seed(1)
    torch.manual_seed(1)
    check_plugin(write_file(tmp_path / "steady_method.py"))
    assert drawn() == expected


def test_the_registry_fixture_finds_nothing_by_itself(registry: Registry) -> None:
    assert registry.plugins == []


def test_the_context_fixture_stays_in_the_temporary_folder(context: Context, tmp_path: Path) -> None:
    for folder in (context.folder, context.stage_folder, context.cache):
        assert folder.is_dir()
        assert folder.is_relative_to(tmp_path)


def test_the_tiny_handle_is_frozen_and_its_own(tiny_handle: ModelHandle, tiny_model: Any) -> None:
    assert not any(parameter.requires_grad for parameter in tiny_handle.model.parameters())
    assert weights_digest(tiny_model) == tiny_handle.digest
    tiny_handle.model.lm_head.weight.data.zero_()
    assert weights_digest(tiny_model) == tiny_handle.digest


def test_the_tiny_tokenizer_gives_back_any_text() -> None:
    tokenizer = tiny_tokenizer()
    text = "naïve 日本 \n\t\x00 🙂"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer) == 259
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_template_marks_what_the_assistant_says() -> None:
    tokenizer = tiny_tokenizer()
    messages = [{"role": "user", "content": "2+2"}, {"role": "assistant", "content": "4"}]
    made = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    said = [i for i, mask in zip(made["input_ids"], made["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(said) == "4<|im_end|>"


def test_the_tiny_folder_loads_as_any_model_folder(tiny_folder: Path, tiny_handle: ModelHandle) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert weights_digest(AutoModelForCausalLM.from_pretrained(tiny_folder)) == tiny_handle.digest
    assert AutoTokenizer.from_pretrained(tiny_folder).get_vocab() == tiny_handle.tokenizer.get_vocab()
