"""What is told of a model and a step without torch, held against what torch really has and keeps."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from tunesmith import Context
from tunesmith.estimate import Lengths
from tunesmith.speed import operations
from tunesmith_full import FullSettings
from tunesmith_full.adapters import full
from tunesmith_full.estimate import full as full_estimate
from tunesmith_lora import LoraSettings
from tunesmith_lora.adapter import apply
from tunesmith_lora.estimate import trained as lora_estimate
from tunesmith_transformers.estimates import source_sizes as estimated_sources
from tunesmith_transformers.estimates import training_cost as estimating
from tunesmith_transformers.estimates.model_sizes import BLOCKS, ENCODERS, sizes_of
from tunesmith_transformers.sources.gguf_header import config_of, read_header
from tunesmith_transformers.tokens.batching import EpochSampler, collate
from tunesmith_transformers.tokens.encoding import Encoded
from tunesmith_transformers.training.losses import token_losses
from tunesmith_transformers.training.settings import ModelSettings, TrainingSettings

SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 101,
    "head_dim": 8,
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", list(BLOCKS))
def test_sizes_are_those_of_the_model_that_transformers_builds(kind, tied):
    tokens = {"pad_token_id": None, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(kind, **SMALL, **tokens, tie_word_embeddings=tied)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    sizes = sizes_of(json.loads(config.to_json_string(use_diff=False)), "causal-lm", 4.0)
    assert sizes.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert sizes.tensors + (not tied) == len(list(model.parameters()))
    block = dict(model.model.layers[0].named_modules())
    found = {name: (block[name].in_features, block[name].out_features) for name in sizes.linear}
    assert found == dict(sizes.linear)


def encoder(kind="bert", **changes):
    tokens = {"pad_token_id": 0, "max_position_embeddings": 70, "intermediate_size": 48}
    config = AutoConfig.for_model(kind, **{**SMALL, **tokens, **changes})
    return AutoModel.from_config(config, add_pooling_layer=False), config


@pytest.mark.parametrize("kind", ENCODERS)
def test_sizes_of_encoders_are_those_of_the_model_that_transformers_builds(kind):
    model, config = encoder(kind)
    sizes = sizes_of(json.loads(config.to_json_string(use_diff=False)), "sequence-labels", 4.0)
    assert sizes.parameters - sizes.head == sum(parameter.numel() for parameter in model.parameters())
    assert sizes.tensors == len(list(model.parameters()))
    block = dict(model.encoder.layer[0].named_modules())
    assert {name: (block[name].in_features, block[name].out_features) for name in sizes.linear} == dict(sizes.linear)
    assert "how many there are is in the data" in sizes.note


def test_blocks_of_another_kind_are_not_guessed():
    assert sizes_of({"model_type": "gpt2", "n_embd": 8}, "causal-lm", 4.0) is None


@pytest.mark.parametrize(
    "config", ["{", "[]", '{"model_type": "llama"}', '{"model_type": "llama", "hidden_size": "x"}']
)
def test_a_damaged_configuration_tells_nothing(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    settings = ModelSettings(source=str(tmp_path))
    assert estimated_sources.directory(settings, Context(folder=tmp_path, device="cpu"), "causal-lm") is None


def gguf(path):
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    keys = {
        "general.architecture": (8, text("llama")),
        "llama.embedding_length": (4, struct.pack("<I", 32)),
        "llama.block_count": (4, struct.pack("<I", 3)),
        "llama.feed_forward_length": (4, struct.pack("<I", 48)),
        "llama.attention.head_count": (4, struct.pack("<I", 4)),
        "llama.attention.head_count_kv": (4, struct.pack("<I", 2)),
        "tokenizer.ggml.tokens": (9, struct.pack("<IQ", 8, 3) + text("a") + text("b") + text("c")),
        "tokenizer.ggml.scores": (9, struct.pack("<IQ", 6, 3) + struct.pack("<3f", 1, 2, 3)),
    }
    body = b"".join(text(key) + struct.pack("<I", kind) + value for key, (kind, value) in keys.items())
    tensor = text("token_embd.weight") + struct.pack("<I", 2) + struct.pack("<QQ", 32, 3) + struct.pack("<IQ", 0, 0)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, len(keys)) + body + tensor)
    return path


def test_a_gguf_header_tells_the_sizes(tmp_path):
    config = config_of(read_header(gguf(tmp_path / "m.gguf")))
    sizes = sizes_of(config, "causal-lm", 4.0)
    assert (sizes.layers, sizes.hidden, sizes.vocabulary, sizes.tied) == (3, 32, 3, True)
    assert sizes.linear["self_attn.k_proj"] == (32, 16)


@pytest.mark.parametrize("length", [3, 20, 100, 300])
def test_a_cut_gguf_file_tells_nothing(tmp_path, length):
    path = gguf(tmp_path / "m.gguf")
    path.write_bytes(path.read_bytes()[:length])
    assert estimated_sources.gguf(ModelSettings(source=str(path)), Context(folder=tmp_path), "causal-lm") is None


def rows(tiny_handle, count=4, length=48, answers=8):
    generator = torch.Generator().manual_seed(0)
    made = [torch.randint(0, 256, (length,), generator=generator).tolist() for _ in range(count)]
    supervised = (False,) * (length - answers) + (True,) * answers
    return collate([Encoded(str(n), tuple(ids), supervised) for n, ids in enumerate(made)], 258)


class Kept:
    """The storages that autograd keeps for the backward pass."""

    def __init__(self, model):
        self.own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
        self.bytes = {}

    def pack(self, tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.own:
            self.bytes[storage.data_ptr()] = storage.nbytes()
        return tensor


@pytest.mark.parametrize("method", ["lora", "full"])
def test_activations_are_what_autograd_keeps(tiny_handle, context, method):
    """Not to the byte: masks, positions and the statistics of norms and attention are not in the formula."""
    sizes = sizes_of(tiny_handle.model.config.to_dict(), "causal-lm", 4.0)
    if method == "lora":
        settings, adapted = LoraSettings(rank=4), apply(tiny_handle, LoraSettings(rank=4), context)
        told = lora_estimate(settings, sizes)
    else:
        adapted, told = full(tiny_handle, FullSettings(), context), full_estimate(FullSettings(), sizes)
    assert told.parameters == sum(parameter.numel() for parameter in adapted.trainable().values())
    inputs = rows(tiny_handle)
    kept = Kept(adapted.model)
    adapted.model.train()
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        losses, _ = token_losses(adapted.model, inputs)
    found = sum(kept.bytes.values())
    lengths = Lengths(tokens=[48] * 4, supervised=[8] * 4)
    work = estimating.work(TrainingSettings(batch_size=4), sizes, told, lengths)
    logits = 4 * 8 * sizes.outputs * 4  # of the two copies autograd keeps the log-softmax
    assert work.activations + logits == pytest.approx(found, rel=0.08)
    assert losses.requires_grad


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("length", [16, 64])
def test_activations_of_an_encoder_are_what_autograd_keeps(dropout, length):
    model, config = encoder(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    sizes = sizes_of(json.loads(config.to_json_string(use_diff=False)), "sequence-labels", 4.0)
    told = full_estimate(FullSettings(), sizes)
    kept = Kept(model)
    model.train()
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        hidden = model(torch.ones(4, length, dtype=torch.long)).last_hidden_state
    assert hidden.requires_grad
    lengths = Lengths(tokens=[length] * 4, supervised=[1] * 4)
    work = estimating.work(TrainingSettings(batch_size=4), sizes, told, lengths)
    assert work.activations == pytest.approx(sum(kept.bytes.values()), rel=0.08)


def test_checkpointing_keeps_the_input_of_each_block_and_the_rest_of_one(tiny_handle):
    sizes = sizes_of(tiny_handle.model.config.to_dict(), "causal-lm", 4.0)
    told, lengths = full_estimate(FullSettings(), sizes), Lengths(tokens=[10] * 4, supervised=[5] * 4)
    plain, saving = (
        estimating.work(TrainingSettings(batch_size=4, activation_checkpointing=on), sizes, told, lengths)
        for on in (False, True)
    )
    per_token = saving.activations / 40 / 4
    assert per_token == sizes.layers * sizes.hidden + plain.activations / 40 / 4 / sizes.layers
    assert saving.flops > 1.25 * plain.flops


def operations_of(layers, method, kind):
    """How many operations with a gradient a forward pass through so many blocks makes."""
    if kind == "bert":
        model, _ = encoder(num_hidden_layers=layers)
    else:
        model = AutoModel.from_config(AutoConfig.for_model("llama", **{**SMALL, "num_hidden_layers": layers}))
    if method == "lora":
        targets = list(sizes_of(model.config.to_dict(), "scalar", 4.0).linear)
        model = get_peft_model(model, LoraConfig(r=4, target_modules=targets)).get_base_model()
    hidden = model(torch.ones(2, 5, dtype=torch.long)).last_hidden_state
    return operations(hidden)


@pytest.mark.parametrize("kind", ["llama", "bert"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_operations_are_those_of_the_graph(method, kind):
    """Of the frozen first block the input has no gradient, so the difference of two depths is what a block makes."""
    a_block = (operations_of(5, method, kind) - operations_of(3, method, kind)) / 2
    config = encoder()[1] if kind == "bert" else AutoConfig.for_model("llama", **SMALL)
    sizes = sizes_of(json.loads(config.to_json_string(use_diff=False)), "scalar", 4.0)
    told = lora_estimate(LoraSettings(), sizes) if method == "lora" else full_estimate(FullSettings(), sizes)
    lengths = Lengths(tokens=[10] * 4, supervised=[5] * 4)
    work = estimating.work(TrainingSettings(batch_size=4), sizes, told, lengths)
    assert work.calls == sizes.layers * a_block + estimating.CALLS_UPDATED * told.tensors


@pytest.mark.parametrize("method", ["lora", "full"])
def test_as_many_tensors_are_trained_as_is_told(tiny_handle, context, method):
    sizes = sizes_of(tiny_handle.model.config.to_dict(), "causal-lm", 4.0)
    if method == "lora":
        adapted, told = apply(tiny_handle, LoraSettings(), context), lora_estimate(LoraSettings(), sizes)
    else:
        adapted, told = full(tiny_handle, FullSettings(), context), full_estimate(FullSettings(), sizes)
    assert told.tensors == len(adapted.trainable())


def test_a_pair_is_two_rows_and_a_reference_one_forward_pass_more(tiny_handle):
    """A row of a trainer on pairs has the tokens of both answers, as its preview shows them."""
    sizes = sizes_of(tiny_handle.model.config.to_dict(), "causal-lm", 4.0)
    told = lora_estimate(LoraSettings(rank=4), sizes)
    both = Lengths(tokens=[96, 96], supervised=[16, 16])
    single = estimating.work(TrainingSettings(batch_size=4), sizes, told, Lengths(tokens=[48] * 4, supervised=[8] * 4))
    pairs = estimating.pairs(TrainingSettings(batch_size=2), sizes, told, both)
    assert (pairs.longest.rows, pairs.longest.tokens, pairs.longest.supervised) == (4, 48, 32)
    assert (pairs.activations, pairs.logits, pairs.flops) == (single.activations, single.logits, single.flops)
    compared = estimating.compared_pairs(TrainingSettings(batch_size=2), sizes, told, both)
    attention = sizes.layers * 4 * 48 * sizes.heads * sizes.head_size
    tokens, head = 4 * 48, sizes.outputs * sizes.hidden
    assert compared.flops - pairs.flops == pytest.approx(2 * (tokens * sizes.in_blocks + 32 * head))
    assert compared.narrow - pairs.narrow == pytest.approx(2 * tokens * told.added)
    assert compared.attention - pairs.attention == pytest.approx(tokens * attention)
    assert compared.read - pairs.read == sizes.in_blocks + head
    assert (compared.activations, compared.passes) == (pairs.activations, pairs.passes + 1)
    guessed = Lengths.of_nothing(50)
    assert estimating.pairs(TrainingSettings(batch_size=2), sizes, told, guessed).longest.tokens == 50


@pytest.mark.parametrize(("count", "batch", "accumulated", "epochs"), [(10, 4, 1, 1), (10, 2, 3, 2), (7, 8, 1, 1.5)])
def test_steps_are_counted_as_the_trainer_counts_them(count, batch, accumulated, epochs, tmp_path):
    from torch.utils.data import Dataset as TorchDataset
    from transformers import Trainer, TrainingArguments

    class Rows(TorchDataset):
        def __len__(self):
            return count

        def __getitem__(self, index):
            return {"x": torch.zeros(1), "labels": torch.zeros(1)}

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, labels):
            return {"loss": (self.w * x).sum()}

    arguments = TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulated,
        num_train_epochs=epochs,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(Model(), arguments, train_dataset=Rows())
    trainer.train()
    settings = TrainingSettings(batch_size=batch, gradient_accumulation_steps=accumulated, epochs=epochs)
    assert estimating.steps_of(settings, count) == trainer.state.max_steps


def test_a_mean_step_has_the_padding_that_the_sampler_makes():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(10, 200, (400,), generator=generator).tolist()
    lengths = Lengths(tokens=tokens, supervised=[3] * 400)
    order = list(EpochSampler(tokens, 8, seed=1, grouped=True))
    batches = [order[start : start + 8] for start in range(0, 400, 8)]
    padded = sum(len(batch) * max(tokens[index] for index in batch) for batch in batches) / len(batches)
    _, told, supervised = estimating.typical_step(TrainingSettings(batch_size=8), lengths, 1)
    assert told == pytest.approx(padded, rel=0.02)
    assert supervised == 24


@pytest.mark.parametrize(
    ("name", "held"), [("adamw_torch", 8), ("adamw_8bit", 2), ("paged_adamw_32bit", 8), ("sgd", 0)]
)
def test_the_state_of_optimizers(name, held):
    assert estimating.optimizer_bytes(TrainingSettings(optim=name)) == held
