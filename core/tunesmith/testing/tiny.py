"""A language model that is built in milliseconds: a two-layer random Llama and a byte-level tokenizer.

torch and transformers are imported when a function here is called, never before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunesmith.adapted import ModelHandle

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|pad|>")
MAX_LENGTH = 1024

#: ChatML; the text between the generation marks is what an assistant says and what training supervises.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}"
    "{{ message['content'] + '<|im_end|>\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_tokenizer() -> Any:
    """A tokenizer of one token a byte and the three ChatML tokens: 259 in all, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # the alphabet comes in no fixed order, and ids must not differ between two processes
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=SPECIAL[1],
        pad_token=SPECIAL[2],
        chat_template=CHAT_TEMPLATE,
        model_max_length=MAX_LENGTH,
    )


def tiny_model(seed: int = 0) -> Any:
    """A two-layer Llama with random float32 weights, the same ones for the same seed."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=256 + len(SPECIAL),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        # wide enough that every layer has a say in the logits; the usual 0.02 is meant for wide models
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=257,
        pad_token_id=258,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config).float().eval()


def tiny_handle(seed: int = 0) -> ModelHandle:
    """A fresh handle of the tiny model, frozen as a model is before an adapter is applied."""
    model = tiny_model(seed)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return ModelHandle(
        model=model,
        tokenizer=tiny_tokenizer(),
        source=f"tiny:{seed}",
        digest=weights_digest(model),
        max_length=MAX_LENGTH,
    )


def tiny_folder(path: Path, seed: int = 0) -> Path:
    """Save the tiny model and its tokenizer in `path`, as a model folder like any other."""
    path.mkdir(parents=True, exist_ok=True)
    tiny_model(seed).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def weights_digest(model: Any) -> str:
    """sha256 over the names and the bytes of a model's weights."""
    import hashlib

    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
