from __future__ import annotations

import asyncio
import configparser
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.setup.service import WATCHDOG_SECONDS, feed_watchdog, notify, unit, watchdog_seconds
from loop.errors import UserError


def make_unit(folder: Path, path: str = "/usr/bin:/bin") -> str:
    executable = folder / "autoresearch"
    executable.write_text("#!/bin/sh\n")
    executable.chmod(0o755)
    return unit(executable=executable, working_directory=folder, home=folder / "home", path=path)


def test_the_unit_starts_the_bot_for_ever_and_spares_its_trainings(tmp_path: Path) -> None:
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(make_unit(tmp_path))
    service = dict(parser["Service"])
    assert service["Type"] == "notify"
    assert service["ExecStart"] == f'"{tmp_path}/autoresearch" up'
    assert service["WorkingDirectory"] == str(tmp_path)
    assert service["Environment"] == f'"AUTORESEARCH_HOME={tmp_path}/home" "PATH=/usr/bin:/bin"'
    assert service["Restart"] == "always"
    assert service["KillMode"] == "process"
    assert service["OOMPolicy"] == "continue"
    assert service["WatchdogSec"] == str(WATCHDOG_SECONDS)
    assert parser["Unit"]["StartLimitIntervalSec"] == "0"
    assert parser["Install"]["WantedBy"] == "default.target"


def test_the_unit_says_how_to_install_it(tmp_path: Path) -> None:
    comments = [line for line in make_unit(tmp_path).splitlines() if line.startswith("#   ")]
    assert [
        word in line for word, line in zip(("service >", "--user", "enable-linger"), comments, strict=True)
    ]
    assert f"&& {tmp_path}/autoresearch service > " in comments[0]  # whatever the PATH is


@pytest.mark.skipif(  # only systemd itself can say whether it accepts a unit, and not every machine has it
    shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze"
)
@pytest.mark.parametrize("name", ["plain", "sp ace", "100%n", "$HOME", "é", "a;b#c", "-x"])
def test_systemd_accepts_the_unit(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    file = tmp_path / "autoresearch.service"
    file.write_text(make_unit(folder, path=f"/usr/bin:{folder}"))
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", str(file)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ['a"b', "a'b", "a\\b", "a\nExecStart=/bin/rm"])
def test_a_path_that_systemd_does_not_take_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="Use a path without quotes"):
        unit(executable=tmp_path / name, working_directory=tmp_path, home=tmp_path, path="/bin")
    with pytest.raises(UserError, match="Use a path without quotes"):
        unit(executable=tmp_path, working_directory=tmp_path, home=tmp_path / name, path="/bin")


# sd_notify


@pytest.fixture(params=["file", "abstract"])
def manager(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A service manager's socket, and the environment that names it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.setblocking(False)
        if request.param == "file":
            address = str(tmp_path / "notify")
            listener.bind(address)
        else:
            listener.bind("")  # the system chooses a name
            address = "@" + os.fsdecode(listener.getsockname()[1:])
        yield listener, {"NOTIFY_SOCKET": address}


def test_the_service_manager_hears_what_it_is_told(manager: tuple[socket.socket, dict[str, str]]) -> None:
    listener, environ = manager
    notify("READY=1", environ)
    notify("STATUS=Experiment #12 trains: größer", environ)
    assert listener.recv(1000) == b"READY=1"
    assert listener.recv(1000).decode() == "STATUS=Experiment #12 trains: größer"


def test_a_queue_that_is_full_holds_nobody_up(
    manager: tuple[socket.socket, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    listener, environ = manager
    while "could not notify" not in caplog.text:
        notify("WATCHDOG=1", environ)
    assert listener.recv(1000) == b"WATCHDOG=1"


def test_without_a_service_manager_nobody_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}):
        notify("READY=1", environ)
    assert caplog.text == ""
    for address in (str(tmp_path / "gone"), "/" + "x" * 200):
        caplog.clear()
        notify("STATUS=secret", {"NOTIFY_SOCKET": address})
        assert "could not notify the service manager of STATUS" in caplog.text
        assert "secret" not in caplog.text


# The watchdog


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "120000000"}, 60.0),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "ours"}, 60.0),
        ({"WATCHDOG_USEC": "120000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_how_often_the_watchdog_is_fed(environ: dict[str, str], seconds: float | None) -> None:
    ours = {name: value.replace("ours", str(os.getpid())) for name, value in environ.items()}
    assert watchdog_seconds(ours) == seconds


async def test_the_watchdog_is_fed_while_all_is_well(manager: tuple[socket.socket, dict[str, str]]) -> None:
    listener, environ = manager
    asked: asyncio.Queue[None] = asyncio.Queue()
    well = False

    def healthy() -> bool:
        asked.put_nowait(None)
        return well

    feeding = asyncio.create_task(feed_watchdog(environ | {"WATCHDOG_USEC": "2000"}, healthy=healthy))
    for _ in range(3):
        await asked.get()
    with pytest.raises(BlockingIOError):
        listener.recv(100)
    well = True
    for _ in range(3):
        assert await asyncio.get_running_loop().sock_recv(listener, 100) == b"WATCHDOG=1"
    feeding.cancel()
    await asyncio.wait({feeding})


async def test_without_a_watchdog_there_is_nothing_to_feed() -> None:
    feeding = asyncio.create_task(feed_watchdog({}, healthy=lambda: pytest.fail("nobody asked")))
    done, _ = await asyncio.wait({feeding}, timeout=0.01)
    assert not done
    feeding.cancel()
    await asyncio.wait({feeding})
