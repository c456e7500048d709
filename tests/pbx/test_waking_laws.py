"""The laws of `test_laws`, where phones fall asleep and are woken, or not, by a gateway that does what it likes."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from config.errors import OurError
from pbx.contact import Contact
from tests.pbx.centre import Centre
from tests.pbx.test_laws import AGENTS, AtWork

ANSWERS: dict[str, bool | Exception | None] = {
    "takes it": True,
    "has forgotten it": False,
    "refuses": OurError("the push gateway answered 503", 502),
    "hangs": None,
}


class AtWorkOnMobiles(AtWork):
    """Every phone can be woken; by TLS, so that its sleep is known when its connection ends."""

    providers = ("fcm",)
    centre: Centre

    def __init__(self) -> None:
        super().__init__()
        self.flows = 0

    async def _comes(self, name: str, host: str = "192.0.2.7") -> None:
        self.flows += 1
        uri = f"sip:{name}@{host}:5062;transport=tls;pn-provider=fcm;pn-prid={name}"
        house = self.centre.house
        for binding in tuple(house.location.all_bindings(house.location.aor(name)).values()):
            house.close(binding.flow_token)
        await house.register(
            name,
            key=uri,
            contact_uri=uri,
            transport="TLS",
            flow_token=f"tls-{self.flows}",
            expires_s=36_000.0,
        )

    @rule(name=AGENTS)
    def falls_asleep(self, name: str) -> None:
        async def falls() -> None:
            house = self.centre.house
            for binding in tuple(house.location.all_bindings(house.location.aor(name)).values()):
                house.close(binding.flow_token)

        self.run(falls())

    @rule(name=AGENTS, host=st.sampled_from(["192.0.2.7", "192.0.2.9"]))
    def wakes(self, name: str, host: str) -> None:
        if self.centre.house.states.of(f"agent-{name}").present:
            self.run(self._comes(name, host))

    @rule(how=st.sampled_from(sorted(ANSWERS)))
    def the_gateway(self, how: str) -> None:
        self.centre.house.gateway.answer = ANSWERS[how]

    async def _everything_ends(self) -> None:
        self.centre.house.gateway.answer = True
        await super()._everything_ends()
        assert self.centre.house.push._sleepers == {}, "no wait for a phone outlasts its time"

    def _waking(self, agent_id: str | None) -> bool:
        house = self.centre.house
        sleepers = house.push._sleepers.get(house.location.aor((agent_id or "").removeprefix("agent-")), [])
        return any(waking.ended is not None for each in sleepers for waking in each.waiting)

    def _rings(self, contact: Contact) -> bool:
        return super()._rings(contact) or self._waking(contact.agent_id)


AtWorkOnMobiles.TestCase.settings = settings(max_examples=12, stateful_step_count=30, deadline=None)
test_the_laws_hold_for_phones_that_sleep = pytest.mark.timeout(600)(AtWorkOnMobiles.TestCase)
