"""Console commands as processes of their own that are there at once: forked by a parent with the heavy imports done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PATIENCE = 120.0  # seconds until a process that does not get on fails the test


class Victims:
    """Starts console commands as processes of their own, without the wait for imports."""

    def __init__(self, logs: Path) -> None:
        self.logs, self.started = logs, 0
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, str(Path(__file__).with_name("parent.py"))]
        self.parent = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._answer() == "ready"

    def start(self, *words: str | Path, actions: Mapping[str, Any] | None = None) -> int:
        """Start a command that meets `actions` at points of its run (`points.py`); its process id."""
        self.started += 1
        return int(self._ask("start", str(self.log), [str(word) for word in words], dict(actions or {})))

    def wait(self, pid: int) -> int:
        """The exit code of a process, negative for the signal that killed it."""
        return int(self._ask("wait", pid))

    def run(self, *words: str | Path, actions: Mapping[str, Any] | None = None) -> int:
        """Start a command and wait for its end; its exit code."""
        return self.wait(self.start(*words, actions=actions))

    def said(self) -> str:
        """What the command started last wrote to its two streams."""
        return self.log.read_text()

    @property
    def log(self) -> Path:
        """What the command started last writes to."""
        return self.logs / str(self.started)

    def close(self) -> None:
        assert self.parent.stdin is not None
        self.parent.stdin.close()
        self.parent.wait(PATIENCE)

    def _ask(self, *order: Any) -> str:
        assert self.parent.stdin is not None
        self.parent.stdin.write(json.dumps(order) + "\n")
        self.parent.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self.parent.stdout is not None
        return self.parent.stdout.readline().strip()
