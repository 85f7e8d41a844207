"""Tunesmith: a fine-tuning engine whose methods are plugins.

These are the names that a plugin author imports. Each is imported when it is first asked for, so that the
console starts at once; none of them loads torch.
"""

TYPE_CHECKING = False  # as typing's, without the cost of importing typing for `tunesmith --help`
if TYPE_CHECKING:
    from annotated_types import Ge, Gt, Interval, Le, Len, Lt, MinLen

    from tunesmith.adapted import Adapted, Column, ModelHandle, ModuleAdapted, Quantization
    from tunesmith.adapters import Adapters
    from tunesmith.comparison.driver import compare
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
    from tunesmith.labels import Labels
    from tunesmith.ledger import Ledger
    from tunesmith.records import Dataset, Records
    from tunesmith.registry import Registry
    from tunesmith.results import Curve, Evaluation, Matrix, Measure, Sample, Table, TrainResult
    from tunesmith.shown import Shown, Token
    from tunesmith.spec import (
        RECORD_COLUMNS,
        Adapter,
        Component,
        Evaluator,
        Exporter,
        Launcher,
        Loader,
        Model,
        Preset,
        Quantizer,
        Role,
        Searcher,
        Settings,
        Step,
        Trainer,
    )
    from tunesmith.spool import Spool
    from tunesmith.steps import Row

__version__ = "0.1.0"

__all__ = [
    "API_LEVEL",
    "RECORD_COLUMNS",
    "Adapted",
    "Adapter",
    "Adapters",
    "Column",
    "Component",
    "Context",
    "Curve",
    "DataError",
    "Dataset",
    "DiskError",
    "Evaluation",
    "Evaluator",
    "Exporter",
    "Ge",
    "Gt",
    "Interval",
    "Labels",
    "Launcher",
    "Le",
    "Ledger",
    "Len",
    "Loader",
    "LockedError",
    "Lt",
    "Matrix",
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
    "Row",
    "Sample",
    "Searcher",
    "Settings",
    "Shown",
    "Spool",
    "Step",
    "StopFlag",
    "Stopped",
    "Table",
    "Token",
    "TrainResult",
    "Trainer",
    "TunesmithError",
    "UsageError",
    "__version__",
    "compare",
    "hookimpl",
]

_HOMES = {
    "annotated_types": ("Ge", "Gt", "Interval", "Le", "Len", "Lt", "MinLen"),
    "tunesmith.adapted": ("Adapted", "Column", "ModelHandle", "ModuleAdapted", "Quantization"),
    "tunesmith.adapters": ("Adapters",),
    "tunesmith.comparison.driver": ("compare",),
    "tunesmith.context": ("Context", "StopFlag"),
    "tunesmith.errors": (
        "DataError",
        "DiskError",
        "LockedError",
        "MemoryExhausted",
        "MissingError",
        "NumericalError",
        "PluginError",
        "RecipeError",
        "Stopped",
        "TunesmithError",
        "UsageError",
    ),
    "tunesmith.hooks": ("API_LEVEL", "hookimpl"),
    "tunesmith.labels": ("Labels",),
    "tunesmith.ledger": ("Ledger",),
    "tunesmith.records": ("Dataset", "Records"),
    "tunesmith.registry": ("Registry",),
    "tunesmith.results": ("Curve", "Evaluation", "Matrix", "Measure", "Sample", "Table", "TrainResult"),
    "tunesmith.shown": ("Shown", "Token"),
    "tunesmith.spec": (
        "RECORD_COLUMNS",
        "Adapter",
        "Component",
        "Evaluator",
        "Exporter",
        "Launcher",
        "Loader",
        "Model",
        "Preset",
        "Quantizer",
        "Role",
        "Searcher",
        "Settings",
        "Step",
        "Trainer",
    ),
    "tunesmith.spool": ("Spool",),
    "tunesmith.steps": ("Row",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # a type checker sees the imports above, and with them a misspelt name

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'tunesmith' has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted(__all__)
