"""From a folder to a `ModelHandle`: dtype, head, tokenizer, and what was decided on the way."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tunesmith import Context, DataError, ModelHandle
from tunesmith.guard import out_of_memory
from tunesmith.labels import LABEL_HEADS, Labels
from tunesmith.store import sha256_file
from tunesmith_transformers.loading import added_tokens, named_templates
from tunesmith_transformers.loading.chat_template import shield
from tunesmith_transformers.loading.pooled import chosen_pooling
from tunesmith_transformers.loading.quantized import check_trainable, keep_layout, leave_file
from tunesmith_transformers.loading.sandbox import left_out, own_code, screened
from tunesmith_transformers.sources.claims import COMMIT, HUB, place
from tunesmith_transformers.sources.identity import other_files_of
from tunesmith_transformers.tokens.ends import end_ids, note_ends, published_ends, stop_at
from tunesmith_transformers.training.settings import ModelSettings

# kernels of the hub are code, which Transformers would fetch and run where the package `kernels` is installed
os.environ.setdefault("USE_HUB_KERNELS", "0")

#: Transformers' class for each head (`Role.head`).
HEADS = {
    "causal-lm": "AutoModelForCausalLM",
    "scalar": "AutoModelForSequenceClassification",
    "sequence-labels": "AutoModelForSequenceClassification",
    "token-labels": "AutoModelForTokenClassification",
    "none": "AutoModel",
}


def load(
    folder: Path, settings: ModelSettings, context: Context, head: str, load_options: Mapping[str, Any], code: str = ""
) -> ModelHandle:
    """Load the model and tokenizer of a folder in Transformers' layout.

    Args:
        head: see `tunesmith.Role.head`.
        load_options: passed to `from_pretrained`; a quantizer's `quantization_config`, `num_labels`, ...
        code: the repository whose Python files may be run; empty for none.

    Raises:
        DataError: the folder cannot be loaded, or its tokenizer does not fit its model.
        RecipeError: Transformers has no class with this head for the model.
    """
    import torch
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    quiet()
    tokenizer, notes = load_tokenizer(folder, settings, context, head, code)
    if not code:
        notes.extend(left_out(folder))
    pooling, note = chosen_pooling(folder, settings.pooling, head)
    notes += [note] * bool(note)
    device = choose_device(context.device)
    options = dict(load_options)
    dtype = options.pop("dtype", None) or choose_dtype(settings.dtype, device)
    if settings.dtype == "auto":
        notes.append(f"weights in {str(dtype).removeprefix('torch.')} on {device}")
    quantized = check_trainable(folder, options)
    if quantized or "quantization_config" in options:
        options.setdefault("device_map", {"": device})  # Transformers would take a GPU even where the CPU is asked for
    if settings.attention:
        options["attn_implementation"] = settings.attention
    from tunesmith_transformers.loading import heads
    from tunesmith_transformers.peft.experts import frozen_experts
    from tunesmith_transformers.training import balance

    try:
        with torch.random.fork_rng(), screened(folder, code=code) as shown:
            torch.manual_seed(context.seed)  # a head that the files lack is drawn
            config = transformers.AutoConfig.from_pretrained(shown, trust_remote_code=bool(code))
            own = heads.own_labels(config)
            config = heads.head_config(config, head, context.labels, pooling)
            kind = heads.class_of(head, config, pooling)
            if head in LABEL_HEADS:  # a head for other labels than these is replaced below
                options["ignore_mismatched_sizes"] = True
            model, report = kind.from_pretrained(
                shown,
                config=config,
                dtype=dtype,
                output_loading_info=True,
                trust_remote_code=bool(code),
                use_safetensors=True,
                **options,
            )
            if head in LABEL_HEADS and own != context.labels and heads.redraw_head(model, report["missing_keys"]):
                notes.append(f"the model's own head tells other labels apart{_few(own)}: a new one is drawn")
            if head == "scalar" and heads.head_lacks(model, report["missing_keys"]):
                heads.draw_scalar(model)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        if out_of_memory(error):
            raise  # the machine's limit, not the folder's fault
        if "Unrecognized configuration class" in str(error) and head != "causal-lm":
            raise heads.no_class(_architecture(folder), head) from error
        if own_code(folder) and not code:
            raise needs_code(settings.source, folder) from error
        raise DataError(
            f"the model in {folder} cannot be loaded: {' '.join(str(error).split())}"[:500],
            where=str(folder),
            fix="Check that the folder is whole and of a model that this version of Transformers knows.",
        ) from error
    model.name_or_path = model.config._name_or_path = str(folder)
    _check_whole(model, head, (*report["missing_keys"], *_names(report["mismatched_keys"])), folder)
    if "device_map" in options:
        keep_layout(model)
        leave_file(model)
    elif device != "cpu":
        model.to(torch.device(device))
    if head == "causal-lm":
        notes.extend(balance.weigh(model, settings.router_aux_loss_coef))
    notes.extend(frozen_experts(model))
    model.config.use_cache = True
    added_tokens.resize(model, tokenizer, folder)
    _check_vocabulary(tokenizer, model, folder)
    named_templates.stop_there(model, tokenizer, settings.chat_template)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    stop_at(model, end_ids(tokenizer))
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(sha256_file(path).encode())
    return ModelHandle(
        model=model,
        tokenizer=tokenizer,
        source=settings.source,
        digest=digest.hexdigest(),
        files=other_files_of(folder, sha256_file),
        added=added_tokens.new_ids(tokenizer),
        head=head,
        max_length=longest(model.config, tokenizer, head),
        quantized=quantized,
        notes=tuple(notes),
        with_head=heads.with_head,
        labels=context.labels if head in LABEL_HEADS else None,
        drawn=() if head in ("causal-lm", "none") else tuple(sorted(report["missing_keys"])),
    )


def longest(config: Any, tokenizer: Any, head: str) -> int | None:
    """Positions that a model takes, in tokens; None for no limit.

    Under a head for labels the tokenizer's own limit holds too: RoBERTa's positions begin behind its pad token, so that
    two of those in its configuration are none.
    """
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if head in LABEL_HEADS and limit is not None:
        return min(limit, tokenizer.model_max_length)
    return limit


def load_tokenizer(
    folder: Path, settings: ModelSettings, context: Context, head: str = "none", code: str = ""
) -> tuple[Any, list[str]]:
    """The tokenizer of a folder, with a pad token, and notes on what had to be decided.

    Args:
        head: the model's; a tokenizer of an encoder has no end token, and a head for labels needs none.
        code: the repository whose Python files may be run; empty for none.

    Raises:
        DataError: there is none, or it lacks the end token or the pad token that is needed.
    """
    from transformers import AutoTokenizer

    quiet()
    try:
        with screened(folder, code=code) as shown:
            tokenizer = AutoTokenizer.from_pretrained(shown, trust_remote_code=bool(code))
        tokenizer.name_or_path = str(folder)
    except DataError:
        raise
    except Exception as error:  # the parser in Rust raises plain Exception for a file that it does not understand
        if isinstance(error, ImportError) or out_of_memory(error):
            raise
        raise DataError(
            f"the tokenizer in {folder} cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())}"[:500],
            where=str(folder),
            fix="Copy the tokenizer's files of the same model into the folder again.",
        ) from error
    notes = []
    encoder = tokenizer.eos_token_id is None and tokenizer.sep_token_id is not None
    if tokenizer.eos_token_id is None and (not encoder or head in ("causal-lm", "scalar")):
        raise DataError(
            f"the tokenizer in {folder} has no end token (eos_token)",
            where=str(folder),
            fix="Name one in tokenizer_config.json: without it the model cannot learn to stop.",
        )
    if tokenizer.pad_token_id is None and encoder:
        raise DataError(
            f"the tokenizer in {folder} has no pad token",
            where=str(folder),
            fix="Name one in tokenizer_config.json.",
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
        notes.append(f"the tokenizer has no pad token: padding with {tokenizer.eos_token!r}, masked by position")
    template = settings.chat_template
    text = named_templates.text_of(template, place(str(template), context.folder)) if template else None
    tokenizer.chat_template = text or tokenizer.chat_template
    notes += added_tokens.extend(tokenizer, settings.add_tokens) if settings.add_tokens else []
    if template:
        named_templates.use(tokenizer, template, str(text), folder)
    tokenizer.padding_side = "right"
    note_ends(tokenizer, (token for token in published_ends(folder) if token < len(tokenizer)))
    shield(tokenizer)
    return tokenizer, notes


def needs_code(source: str, folder: Path) -> DataError:
    """The error for a model that cannot be built without code of its own."""
    pinned = HUB.match(source) and COMMIT.fullmatch(source.partition("@")[2])
    return DataError(
        f"the model {source!r} needs code of its own (auto_map in config.json), which is not run",
        where=str(folder / "config.json"),
        fix=f"Use a model that Transformers knows. If you have read its code, add --trust-remote-code {source} to the "
        "command."
        if pinned
        else "Use a model that Transformers knows. To run code that you have read, name the model as OWNER/NAME@COMMIT "
        "in [model] and add --trust-remote-code OWNER/NAME@COMMIT to the command.",
    )


def choose_device(wanted: str) -> str:
    """`auto` as the first GPU, or the CPU.

    Raises:
        DataError: the device that is asked for is not here.
    """
    import torch

    if wanted == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise DataError("[run] device asks for a GPU, but torch sees none", fix='Set device = "cpu" or "auto".')
    return wanted


def choose_dtype(wanted: str, device: str) -> Any:
    """`auto` as what computes well on the device: bfloat16 is many times slower than float32 on most CPUs."""
    import torch

    if wanted != "auto":
        return getattr(torch, wanted)
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.float32


def quiet() -> None:
    """Keep the libraries' progress bars, remarks and notices of future renamings off the console."""
    import warnings

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    # PEFT imports torchao where it is installed, which reports kernels of other devices and a renaming inside torch
    logging.getLogger("torchao").setLevel(logging.ERROR)
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    # bitsandbytes misses a kernel that has no backward pass and is never used here: the layout that it takes is off
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|trl|accelerate)\.")


def _few(labels: Labels | None) -> str:
    """The first of some labels, for a note."""
    if labels is None:
        return ""
    return f" ({', '.join(labels.names[:3])}{', ...' if len(labels) > 3 else ''})"


def _names(mismatched: Iterable[Any]) -> list[str]:
    """Names of tensors whose shape differs from the model's; Transformers tells the shapes too."""
    return [item if isinstance(item, str) else item[0] for item in mismatched]


def _architecture(folder: Path) -> str:
    """What a folder's configuration calls the kind of model."""
    return str(json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type"))


def _check_whole(model: Any, head: str, missing: Iterable[str], folder: Path) -> None:
    """Refuse weights that the files lack: Transformers fills them with random numbers and goes on.

    A head that the role adds to a language model (scalar, labels) is new by intention, and so is its pooler.
    """
    prefix = f"{model.base_model_prefix}."
    lacking = sorted(
        name
        for name in missing
        if head == "causal-lm" or (head != "none" and name.startswith(prefix) and "pooler" not in name)
    )
    if lacking:
        raise DataError(
            f"the weights in {folder} lack {len(lacking)} of the model's tensors",
            where=str(folder),
            details=[*lacking[:5], *(["..."] if len(lacking) > 5 else [])],
            fix="Fetch the model again, or mend its config.json: tensors that lack would be random numbers.",
        )


def _check_vocabulary(tokenizer: Any, model: Any, folder: Path) -> None:
    embeddings = model.get_input_embeddings()
    size = getattr(embeddings, "num_embeddings", None)
    if size is not None and len(tokenizer) > size:
        raise DataError(
            f"the tokenizer in {folder} knows {len(tokenizer)} tokens, but the model embeds only {size}",
            where=str(folder),
            fix="Use the tokenizer that belongs to the model.",
        )
