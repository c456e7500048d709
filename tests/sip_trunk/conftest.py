from __future__ import annotations

import pytest

from tests.sip_trunk.network import Pair


@pytest.fixture
def pair() -> Pair:
    return Pair()
