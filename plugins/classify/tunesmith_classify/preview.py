"""What a classifier reads and what it shall say, as `tunesmith data show --mask` displays it."""

from __future__ import annotations

from typing import Any

from tunesmith import Records
from tunesmith.labels import names_of
from tunesmith_classify.encode import TAGS, encode
from tunesmith_classify.settings import TagSettings
from tunesmith_transformers.tokens.encoding import IGNORED


def preview(records: Records, record_type: str, settings: TagSettings, tokenizer: Any) -> list[list[tuple[str, bool]]]:
    """Each row's tokens as (text, trained), and behind them what they are to be labelled.

    Of a text no token is trained, its labels are; of tagged words the first token of each, with its tag behind it.
    """
    index = {
        name: place for place, name in enumerate(sorted({n for _, row in records for n in names_of(row, record_type)}))
    }
    names = list(index)
    rows = dict(records)
    shown = []
    for item in encode(
        records, record_type, tokenizer, index, max_length=settings.max_length, overlong=settings.overlong
    ):
        texts = [tokenizer.decode([token]) for token in item.ids]
        if record_type == TAGS:
            marks = zip(texts, item.target, strict=True)
            shown.append([(f" {t}/{names[p]}" if p != IGNORED else t, p != IGNORED) for t, p in marks])
        else:
            labels = ", ".join(names_of(rows[item.row], record_type)) or "(no label)"
            shown.append([*((f"{text} ", False) for text in texts), (labels, True)])
    return shown
