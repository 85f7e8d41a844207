"""A tiny encoder: a two-layer random BERT over bytes, with the tokens that stand around a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TEXTS = {"card": ["aaab", "aaba", "abaa"], "cash": ["zzzy", "zzyz", "zyzz"]}
LABELLED = [
    {"text": f"{text} {number}", "label": label}
    for label, texts in TEXTS.items()
    for text in texts
    for number in range(8)
]


def encoder_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: place for place, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["[CLS]", "[SEP]", "[PAD]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 256), ("[SEP]", 257)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]", model_max_length=64
    )


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Rows with labels that can be learnt in a few steps."""
    return [dict(row) for row in LABELLED]


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder; its base has no head, as a sentence transformer's has none."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("encoder")
    config = BertConfig(
        vocab_size=259,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=66,  # two more than the tokenizer takes, as RoBERTa has it
        pad_token_id=258,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sentence_folder(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same encoder as a sentence transformer with mean pooling."""
    import shutil

    folder = shutil.copytree(encoder_folder, tmp_path_factory.mktemp("sentence") / "model")
    (folder / "1_Pooling").mkdir()
    modes = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    return folder
