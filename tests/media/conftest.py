from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.media.media_servers import Open, house


@pytest.fixture(scope="session")
def made_prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whoever is first makes them."""
    return tmp_path_factory.mktemp("prompts")


@pytest.fixture(params=["embedded", "rtpengine"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, made_prompts: Path) -> Open:
    """A media server of each kind."""
    return partial(house, request.param, tmp_path, made_prompts)
