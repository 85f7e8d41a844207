"""The adapted model: groups while training, scaled positions, and both gone where the base is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tunesmith import DataError, ModelHandle
from tunesmith_longlora.attention import register
from tunesmith_longlora.carrier import Carrier
from tunesmith_longlora.positions import Positions
from tunesmith_transformers.peft.adapted import PeftAdapted

CONFIG = "longlora_config.json"


class LongLoraAdapted(PeftAdapted):
    """LoRA on PEFT with another attention while training.

    Args:
        config: the `peft.LoraConfig`.
        group_size: tokens of an attention group.
        positions: how they are scaled; None where they are the base's own.

    `carrier.active` says whether training attends in groups; without it, training has full attention too.
    """

    def __init__(self, handle: ModelHandle, config: Any, group_size: int, positions: Positions | None) -> None:
        inner = handle.model
        super().__init__(handle, config)
        self.group_size = group_size
        self.positions = positions
        self._inner = inner
        self._attention = inner.config._attn_implementation, register(group_size)  # the model's own, and ours
        inner.set_attn_implementation(self._attention[1])
        self.carrier = Carrier(inner.get_decoder())

    def describe(self) -> dict[str, Any]:
        """What PEFT's files cannot say: the group, and the positions that the base must be given."""
        return {"group_size": self.group_size, **(self.positions.describe() if self.positions else {})}

    def save(self, folder: Path) -> None:
        """Write PEFT's files and `longlora_config.json`."""
        super().save(folder)
        text = json.dumps(self.describe(), indent=2, ensure_ascii=False)
        (folder / CONFIG).write_text(text + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Read what `save` wrote.

        Raises:
            DataError: a file is missing or does not fit, or the positions are scaled otherwise.
        """
        path = folder / CONFIG
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"the description of the adapter at {path} cannot be read: {error}",
                fix="Give the artifact folder of a finished run of longlora.",
            ) from error
        here = self.describe()
        differing = sorted(key for key in {*found, *here} if found.get(key) != here.get(key))
        if differing:
            raise DataError(
                f"the adapter in {folder} does not fit: {', '.join(differing)} differ",
                details=[f"{key}: saved {found.get(key)}, here {here.get(key)}" for key in differing],
                fix="Use the base model and the adapter settings that it was made with.",
            )
        super().load(folder)

    def merge(self) -> Any:
        """The plain model: its own full attention, and the scaled positions in its configuration."""
        merged = super().merge()
        self.carrier.remove()
        self._inner.set_attn_implementation(self._attention[0])
        return merged

    @contextmanager
    def disabled(self) -> Iterator[Any]:
        """The base model with its own attention and positions, in training mode too."""
        own, ours = self._attention
        self.carrier.active = False
        self._inner.set_attn_implementation(own)
        try:
            with self.positions.own() if self.positions else nullcontext(), super().disabled() as model:
                yield model
        finally:
            self._inner.set_attn_implementation(ours)
            self.carrier.active = True
