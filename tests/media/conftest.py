from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.media import media_servers
from tests.media.media_servers import Open
from tests.media.relay_house import House


@pytest.fixture(scope="session")
def made_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whoever is first makes them."""
    return tmp_path_factory.mktemp("prompts")


@pytest.fixture(params=["embedded", "rtpengine"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, made_prompts: Path) -> Open:
    """A media server of each kind."""
    return partial(media_servers.house, request.param, tmp_path, made_prompts)


@pytest.fixture
def port_count() -> int:
    return 32


@pytest.fixture
def house(tmp_path: Path, port_count: int) -> Iterator[House]:
    opened = House(tmp_path, port_count)
    yield opened
    opened.close()
