"""What training a classifier takes. No torch here."""

from __future__ import annotations

from tunesmith.estimate import Lengths, Sizes, Trained, Work
from tunesmith_classify.settings import TagSettings
from tunesmith_transformers.estimates.training_cost import work


def training(settings: TagSettings, sizes: Sizes, trained: Trained, lengths: Lengths) -> Work:
    """A sequence a row; two where R-Drop or the contrastive loss has each passed twice."""
    return work(settings, sizes, trained, lengths, sides=2 if settings.twice else 1)
