"""A run that is stopped while it exports: it is not done, and goes on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Exporter, Stopped, hookimpl
from tunesmith.context import SilentReporter
from tunesmith.run import resume


class Stopper:
    """An exporter during whose first call a signal comes."""

    def __init__(self) -> None:
        self.calls = 0

    @hookimpl
    def tunesmith_exporters(self) -> list[Exporter]:
        def stop(artifact: Path, settings: Any, context: Any) -> Path:
            self.calls += 1
            if self.calls == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return artifact

        return [Exporter(name="stopper", summary="Stops", factory=stop)]


def test_a_signal_during_the_last_export_stops_the_run_and_what_was_exported_is_taken_again(house: Any) -> None:
    stopper = Stopper()
    sets = ("trainer.max_steps=2", 'export=[{use="merge",to="model"},{use="stopper"}]')
    with pytest.raises(Stopped) as stopped:
        house.run(*sets, plugins=(stopper,))
    assert stopped.value.exit_code == 143
    run = house.newest()
    assert json.loads((run / "state.json").read_text())["status"] == "stopped"
    assert (house.folder / "model" / "parity.json").is_file()

    registry = house.make_registry()
    registry.add(stopper, name="test-observer")
    done = resume(run, registry, SilentReporter()).results["main"]
    assert json.loads((run / "state.json").read_text())["status"] == "done"
    assert done.exports == [str(house.folder / "model"), str(run / "artifact")]
    assert stopper.calls == 2
    assert {"export merge", "export stopper"} <= set(done.seconds)
