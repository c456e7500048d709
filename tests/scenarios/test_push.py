"""An agent's softphone that sleeps: a push wakes a real phone, which registers anew and takes the call, or does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from config.bridge import spawn
from tests.peers.people import make_ready, make_ready_by_page, phone
from tests.peers.pjsua import Pjsua
from tests.peers.process import until
from tests.peers.push_gateway import TOKEN, PushGateway
from tests.peers.sipp import Sipp
from tests.peers.warmline import Warmline
from tests.scenarios.test_outcomes import caller

PRID = "5ecret-of-carlas-phone"
TOLD = ("contact.waking", "contact.woken", "contact.prompted", "contact.accepted", "contact.connected")
PUSH = f"pn-provider=fcm;pn-param=app-1;pn-prid={PRID}"


def mobile(tmp_path: Path, server: Warmline, **options: Any) -> Pjsua:
    """Carla's softphone on her mobile; each start of it is on a port of its own."""
    return Pjsua(
        tmp_path,
        user="carla",
        password="carla-phone",
        domain="127.0.0.1",
        registrar_port=server.sip_port,
        transport=options.pop("transport", "tcp"),
        push=PUSH,
        **options,
    )


@asynccontextmanager
async def asleep(
    tmp_path: Path, transport: str = "tcp", **settings: object
) -> AsyncIterator[tuple[Warmline, PushGateway]]:
    """A server, and Carla, who is ready, and whose phone the system has put to sleep."""
    async with (
        PushGateway() as gateway,
        Warmline(
            tmp_path,
            **{
                "push_gateway_url": gateway.url,
                "push_gateway_token": TOKEN,
                "push_wait_s": 20,
                "ring_s": 40,
                **settings,
            },
        ) as server,
    ):
        async with mobile(tmp_path, server, transport=transport) as device:
            answers = [m for m in device.trace() if m.received and "REGISTER" in m.header("CSeq")]
            assert answers[-1].header("Feature-Caps") == '*;+sip.pns="fcm"'
            # It had asked for 120 s, which is too short for a phone that a push keeps registered.
            assert [m.header("Min-Expires") for m in answers if " 423 " in m.start] == ["300"]
            await make_ready_by_page(server, "carla")
            await device.process.kill()
            if transport != "udp":  # where nothing tells
                await server.event("device.asleep", agent_id="agent-carla")
        assert server.agent_state("agent-carla") == "Ready"
        yield server, gateway


def keeps_the_secret(server: Warmline) -> bool:
    return PRID not in str(server.events()) and PRID not in server.process.output()


class Waking:
    """What a push does: the phone starts, and picks up."""

    def __init__(self, tmp_path: Path, server: Warmline, transport: str = "tcp") -> None:
        self.phone = mobile(tmp_path, server, answer="auto", transport=transport)
        self._began: Any = None

    def __call__(self, body: dict[str, Any]) -> None:
        if self._began is None:
            self._began = spawn(self.phone.__aenter__(), "the phone wakes")

    async def ends(self) -> None:
        if self._began is not None:
            await self._began
            await self.phone.__aexit__()


async def connects(
    server: Warmline, gateway: PushGateway, waking: Waking, sipp: Sipp, told: tuple[str, ...] = TOLD
) -> None:
    contact = (await server.event("contact.connected", seconds=40))["contact_id"]
    body = gateway.bodies[-1]
    assert body == {"provider": "fcm", "param": "app-1", "prid": PRID, "why": "call", "good_for_s": 20}
    assert [kind for kind in server.kinds(contact) if kind in TOLD] == list(told)
    heard = [message.start.split(" ")[:2] for message in waking.phone.trace() if message.received]
    assert heard.index(["SIP/2.0", "200"]) < [word for word, _ in heard].index("INVITE")
    await waking.phone.do("hang_up_all")
    await sipp.finished()
    await server.event("contact.ended", contact_id=contact)
    assert keeps_the_secret(server)


async def test_a_push_wakes_the_phone_and_its_agent_takes_the_call(tmp_path: Path) -> None:
    async with asleep(tmp_path) as (server, gateway):
        gateway.on_push = waking = Waking(tmp_path, server)
        try:
            async with caller(tmp_path, server) as sipp:
                await connects(server, gateway, waking, sipp)
            assert len(gateway.bodies) == 1
        finally:
            await waking.ends()


async def test_one_of_which_nobody_knows_that_it_sleeps_is_woken_when_it_stays_silent(tmp_path: Path) -> None:
    async with asleep(tmp_path, "udp") as (server, gateway):
        gateway.on_push = waking = Waking(tmp_path, server, "udp")
        try:
            async with caller(tmp_path, server) as sipp:
                await connects(server, gateway, waking, sipp, ("contact.prompted", *TOLD))
            assert len(gateway.bodies) == 1
        finally:
            await waking.ends()


async def test_a_phone_that_does_not_wake_is_asleep_and_the_next_agent_is_rung(tmp_path: Path) -> None:
    async with (
        asleep(tmp_path, push_wait_s=3) as (server, gateway),
        phone(tmp_path, server, "deniz") as deniz,
    ):
        await make_ready(server, deniz)
        async with caller(tmp_path, server):
            event = await server.event("contact.asleep", agent_id="agent-carla")
            assert list(event["facts"]["phones"].values()) == ["it did not come back within 3 s of a push"]
            await deniz.event("CALL_INCOMING")
            await deniz.accept()
            connected = await server.event("contact.connected", contact_id=event["contact_id"])
            assert connected["agent_id"] == "agent-deniz"
            await server.agent_is("agent-carla", "Ready", seconds=1)
        assert [body["why"] for body in gateway.bodies] == ["call"]
        assert keeps_the_secret(server)


async def test_a_crash_while_it_is_woken_leaves_nobody_held_and_the_phone_can_be_woken_again(
    tmp_path: Path,
) -> None:
    async with asleep(tmp_path) as (server, gateway):
        async with caller(tmp_path, server):
            await until(lambda: gateway.bodies, "the push")
            await server.agent_is("agent-carla", "Reserved")
            await server.kill()
        await server.start()
        await server.agent_is("agent-carla", "Ready", seconds=2)
        ended = await server.event("contact.ended")
        assert ended["facts"]["disposition"] == "server_died"
        gateway.on_push = waking = Waking(tmp_path, server)
        try:
            async with caller(tmp_path, server) as sipp:
                await connects(server, gateway, waking, sipp)
        finally:
            await waking.ends()
