"""A PostgreSQL server of a test's own: data in a temporary folder, on a free port of this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest


@dataclass
class Postgres:
    binaries: Path
    folder: Path
    port: int
    numbers: count[int]

    @classmethod
    def start(cls, folder: Path) -> Postgres:
        """Make a cluster and serve it; skips the test where PostgreSQL is not installed."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        if not found:
            pytest.skip("PostgreSQL is not installed")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root, and others may not enter pytest's folders
            folder = Path("/tmp") / f"warmline-test-postgres-{port}"
            folder.mkdir(mode=0o700)
            shutil.chown(folder, "postgres", "postgres")
        server = cls(found[-1].parent, folder, port, count())
        data = str(folder / "data")
        server._run("initdb", "-D", data, "-U", "warmline", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        server._run("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        return server

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"trial{next(self.numbers)}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "warmline", name)
        return f"postgresql+asyncpg://warmline@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, name: str, *words: str) -> None:
        command = [str(self.binaries / name), *words]
        if os.geteuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        done = subprocess.run(
            command,
            cwd="/",
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
