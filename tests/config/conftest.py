from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.config.postgres import Postgres


@pytest.fixture(scope="package")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """One PostgreSQL server for all of these tests; each takes a database of its own."""
    server = Postgres.start(tmp_path_factory.mktemp("postgres"))
    yield server
    server.stop()
