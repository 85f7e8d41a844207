"""Packages that values of settings need, and whether they are here. No torch here."""

from __future__ import annotations

import sys
from importlib.util import find_spec

#: What Transformers can tell the figures of a step -> what Python imports for it.
REPORTERS = {
    "none": "transformers",
    "azure_ml": "azureml",
    "comet_ml": "comet_ml",
    "mlflow": "mlflow",
    "neptune": "neptune",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
    "codecarbon": "codecarbon",
    "clearml": "clearml",
    "dagshub": "dagshub",
    "flyte": "flytekit",
    "dvclive": "dvclive",
    "swanlab": "swanlab",
    "kubeflow": "kubeflow",
}
#: What pip calls a package, where it is not what Python imports.
PIP = {
    "azureml": "azureml-core",
    "galore_torch": "galore-torch",
    "apollo_torch": "apollo-torch",
    "optimi": "torch-optimi",
    "torchdistx": "torchdistX",
}


def lacking(module: str) -> str | None:
    """What pip calls the package of an import name; None where it is here."""
    if module in sys.modules or find_spec(module) is not None:
        return None
    return PIP.get(module, module)
