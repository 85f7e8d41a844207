"""Plugins that end, stop, steer or write over the process when they are imported: named, and nothing else suffers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from faults.battery import Recorder, amount
from faults.test_bad_plugins import FINE, Site

pytestmark = pytest.mark.fault("R25")

HOOK = "from tunesmith import hookimpl\n@hookimpl\ndef tunesmith_adapters():\n    {0}\n    return ()\n"
#: What a plugin does, and what is said of it; None where it stays usable.
DEEDS = {
    "os._exit(0)": "it ends the process when it is imported (os._exit)",
    "os.abort()": "it ends the process when it is imported (os.abort)",
    "os.execv('/bin/true', ['true'])": "it ends the process when it is imported (os.execv)",
    "sys.exit(0)": "SystemExit",
    "time.sleep(600)": "it was not imported within 1 seconds",
    "exec('while True: pass')": "it was not imported within 1 seconds",
    "os.chdir('/')": "it changes the working folder when it is imported",
    "sys.stdout.close()": "it closes stdout when it is imported",
    "sys.__stdout__.close()": "it closes stdout when it is imported",
    "os.close(1)": None,
    "print('{\"not\": \"data\"}')": None,
    "os.write(1, b'not data')": None,
    "sys.__stdout__.write('')": None,
    "os.fork() or os._exit(0)": None,
}  # fmt: skip
COMMAND = "import sys; from tunesmith.console import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.parametrize("when", ["when imported", "when asked"])
def test_a_plugin_cannot_take_the_process_along(tmp_path: Path, fault: Recorder, when: str) -> None:
    site = Site(tmp_path)
    environment = {**site.environment, "TUNESMITH_IMPORT_SECONDS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    chosen = amount(DEEDS, {deed: DEEDS[deed] for deed in ("os._exit(0)", "time.sleep(600)", "os.chdir('/')")})
    count = fault("R25", f"{when}: ends the process, sleeps, prints, closes stdout, changes the folder")
    site.put("stranger-0", "")
    module = site.folder / "tunesmith_stranger_0.py"
    for deed, said in chosen.items():
        with count.trial(deed):
            own = FINE.format(name="own", module="m", requires=())
            begin = "import os, sys, time\n"
            module.write_text(begin + (f"{deed}\n{own}" if when == "when imported" else HOOK.format(deed)))
            done = subprocess.run(
                [sys.executable, "-c", COMMAND, "plugins", "list", "--json"],
                env={**environment, "TUNESMITH_CACHE": str(tmp_path / str(abs(hash(deed))))},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert "Traceback" not in done.stderr
            assert done.returncode == 0, done.stderr
            listed = json.dumps(json.loads(done.stdout))
            assert '"lora"' in listed
            if said is None:
                assert "broken" not in listed, done.stdout[:2000]
                assert '"own"' in listed or when == "when asked"
            else:
                assert said in listed
                assert "stranger-0" in listed
            assert os.getcwd() != "/"


def test_what_a_plugin_prints_is_told_on_stderr(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.put("stranger-0", "print('hello from afar')\n" + FINE.format(name="own", module="m", requires=()))
    code, out, err, _ = site.call("plugins", "list")
    assert code == 0
    assert "hello" not in out
    assert "plugin tunesmith-stranger-0 printed when it was imported: 'hello from afar'" in err
