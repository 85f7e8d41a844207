"""The battery's frame: tests say which fault they inject and count it; the summary has a line for each.

A test is marked `@pytest.mark.fault("R2")` and takes the fixture `fault`:

    count = fault("R2", "SIGKILL at every system call of a save, LoRA")
    for call in calls:
        with count.trial(f"call {call}"):
            ...     # an assertion that fails in here is one that was lost

or hands over what it counted itself: `fault("R2", "...", injected=9, survived=9, lost=0)`. A test with losses fails.
`make faults` sets FAULTS=all, which `faults.battery.amount(full, quick)` looks at.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

pytest.register_assert_rewrite("faults.lost")

from faults import battery  # noqa: E402
from faults.victims import Victims  # noqa: E402

RECORDER = pytest.StashKey[battery.Recorder]()
FOUND = pytest.StashKey[dict[str, Any]]()


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> battery.Recorder:
    """Counts what is injected: `fault(number, what)`."""
    return request.node.stash[RECORDER]


@pytest.fixture
def lean(house: Any) -> Any:
    """The house with a recipe that measures nothing, for faults that strike while something is trained or saved."""
    house.content["data"]["validation"] = 0.0
    house.content["evaluate"] = []
    return house


@pytest.fixture(scope="session")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victims]:
    """Starts console commands as processes of their own."""
    made = Victims(tmp_path_factory.mktemp("victims"))
    yield made
    made.close()


def faults_of(item: pytest.Item) -> tuple[str, ...]:
    marker = item.get_closest_marker("fault")
    return marker.args if marker else ()


def pytest_runtest_setup(item: pytest.Item) -> None:
    faults = faults_of(item)
    assert set(faults) <= set(battery.FAULTS)
    item.stash[RECORDER] = battery.Recorder(faults)
    item.user_properties.append(("faults", faults))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    tallies = pyfuncitem.stash[RECORDER].tallies
    try:
        result = yield
    finally:
        pyfuncitem.user_properties.append(("tallies", battery.plain(tallies)))
    lost = [f"{tally.fault} {line}" for tally in tallies for line in tally.lost]
    if lost:
        pytest.fail(f"{len(lost)} lost:\n" + "\n".join(lost), pytrace=False)
    return result


# --- the summary; these run where the tests' reports come together, which with pytest-xdist is not where they run --
def pytest_configure(config: pytest.Config) -> None:
    config.stash[FOUND] = {}
    config.pluginmanager.register(Summary(config), "faults-summary")


class Summary:
    """Keeps what the reports of tests say, writes it, and shows it."""

    def __init__(self, config: pytest.Config) -> None:
        self.found: dict[str, Any] = config.stash[FOUND]
        self.writes = battery.RECORDED and not hasattr(config, "workerinput")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        said = dict(report.user_properties)
        if not said.get("faults") or (report.when != "call" and report.passed):
            return
        reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
        self.found[report.nodeid] = {
            "faults": list(said["faults"]),
            "tallies": said.get("tallies", []),
            "skipped": str(reason).removeprefix("Skipped: "),
            "failed": report.failed,
        }
        if self.writes:  # at once: a battery that is cut short has said what it found
            battery.write_records({report.nodeid: self.found[report.nodeid]})

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.found:
            terminalreporter.section("faults")
            for row in battery.rows(self.found):
                terminalreporter.write_line(row.line())
