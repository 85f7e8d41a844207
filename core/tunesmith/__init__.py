"""Tunesmith: a fine-tuning engine whose methods are plugins.

These are the names that a plugin author imports. Importing this package loads no torch.
"""

from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MinLen

from tunesmith.adapted import Adapted, ModelHandle, ModuleAdapted, Quantization
from tunesmith.context import Context, StopFlag
from tunesmith.errors import (
    DataError,
    DiskError,
    LockedError,
    MemoryExhausted,
    MissingError,
    NumericalError,
    PluginError,
    RecipeError,
    Stopped,
    TunesmithError,
    UsageError,
)
from tunesmith.hooks import API_LEVEL, hookimpl
from tunesmith.ledger import Ledger
from tunesmith.records import Dataset, Records
from tunesmith.registry import Registry
from tunesmith.spec import (
    RECORD_COLUMNS,
    Adapter,
    Component,
    Evaluation,
    Evaluator,
    Exporter,
    Launcher,
    Loader,
    Measure,
    Model,
    Preset,
    Quantizer,
    Role,
    Sample,
    Settings,
    Trainer,
    TrainResult,
)

__version__ = "0.1.0"

__all__ = [
    "API_LEVEL",
    "RECORD_COLUMNS",
    "Adapted",
    "Adapter",
    "Component",
    "Context",
    "DataError",
    "Dataset",
    "DiskError",
    "Evaluation",
    "Evaluator",
    "Exporter",
    "Ge",
    "Gt",
    "Interval",
    "Launcher",
    "Le",
    "Ledger",
    "Len",
    "Loader",
    "LockedError",
    "Lt",
    "Measure",
    "MemoryExhausted",
    "MinLen",
    "MissingError",
    "Model",
    "ModelHandle",
    "ModuleAdapted",
    "NumericalError",
    "PluginError",
    "Preset",
    "Quantization",
    "Quantizer",
    "RecipeError",
    "Records",
    "Registry",
    "Role",
    "Sample",
    "Settings",
    "StopFlag",
    "Stopped",
    "TrainResult",
    "Trainer",
    "TunesmithError",
    "UsageError",
    "__version__",
    "hookimpl",
]
