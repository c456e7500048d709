"""A data folder as a server leaves it after its first start: tables, sample data, certificates and prompts.

To make one costs ten seconds of CPU, so each test's server is given a copy; tests/scenarios/test_make_run.py has
a first start of its own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.peers.process import PeerFailed, free_port, free_range, free_sip_port

ROOT = Path(__file__).resolve().parents[2]

_lock = threading.Lock()
_made: list[Path] = []


def give(data: Path) -> None:
    """Put such a folder there; blocks. Raises PeerFailed."""
    with _lock:
        if not _made:
            _made.append(_make())
    shutil.copytree(_made[0], data)


def _make() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="warmline-first-start-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data = folder / "data"
    low, high = free_range(10)
    settings: dict[str, object] = {
        "data": data,
        "http_port": free_port(),
        "https_port": free_port(),
        "sip_port": free_sip_port(),
        "sips_port": 0,
        "rtp_ports": f"{low}-{high}",
        "robot_agent": "off",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WARMLINE_")}
    environment["PYTHONPATH"] = str(ROOT)
    environment |= {f"WARMLINE_{name.upper()}": str(value) for name, value in settings.items()}
    with subprocess.Popen(
        [sys.executable, "-m", "pbx.cli", "serve"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as server:
        assert server.stdout is not None
        said = []
        for line in server.stdout:
            said.append(line)
            if b"Warmline is up" in line:
                server.send_signal(signal.SIGINT)
        if server.wait():
            raise PeerFailed("a first start failed:\n" + b"".join(said).decode(errors="replace")[-4000:])
    making = [sys.executable, "-m", "media.prompt_making", str(data / "prompts")]
    subprocess.run(making, env=environment, check=True)
    with sqlite3.connect(data / "warmline.sqlite3") as connection:
        # What each server says of its own settings is for it to say.
        connection.execute("DELETE FROM event")
        connection.execute("DELETE FROM sqlite_sequence")
    connection.close()
    return data
