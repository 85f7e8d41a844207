"""What is supervised, token by token, as `tunesmith data show --mask` displays it."""

from __future__ import annotations

from typing import Any

from tunesmith import Records
from tunesmith_sft import SftSettings
from tunesmith_transformers.tokens.encoding import encode, marked


def preview(records: Records, record_type: str, settings: SftSettings, tokenizer: Any) -> list[list[tuple[str, bool]]]:
    """Each row's tokens as (text, supervised), exactly as training sees them."""
    encoded = encode(
        records,
        record_type,
        tokenizer,
        max_length=settings.max_length,
        overlong=settings.overlong,
        supervise=settings.supervise,
        turns=settings.turns,
    )
    return [marked(row, tokenizer) for row in encoded]
