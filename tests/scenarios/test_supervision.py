"""A supervisor listens to a call with their own softphone, whispers, and joins in: who hears whom is told by tones."""

from __future__ import annotations

from pathlib import Path

from tests.peers.agent_page import AgentPage
from tests.peers.baresip import Baresip, tones_in
from tests.peers.people import make_ready, phone, phone_hears
from tests.peers.process import until
from tests.scenarios.test_waiting import VOICE, CentreOfTones, calls, telephone

ANA, CARLA = 880, 1230
PCMU = {"audio_codecs": "pcmu/8000/1", "video": False}


async def hears(device: Baresip, *tones: int) -> None:
    """These, and none of the others."""

    def so() -> bool:
        path = device.heard()
        return path is not None and tones_in(path, VOICE, ANA, CARLA, last_seconds=0.8) == set(tones)

    await until(so, f"{device.user} to hear {tones}", seconds=12)


async def test_listen_whisper_join_in_and_leave(tmp_path: Path) -> None:
    async with (
        CentreOfTones(tmp_path) as server,
        phone(tmp_path, server, "ana", tone=ANA, **PCMU) as ana,
        phone(tmp_path, server, "carla", tone=CARLA, audio_codecs="opus/48000/2", video=False) as carla,
        telephone(tmp_path, server, "+15550100001") as caller,
    ):
        await make_ready(server, ana)
        contact = await calls(server, caller)
        await ana.event("CALL_INCOMING")
        await ana.accept()
        await server.event("contact.connected", contact_id=contact)
        await until(lambda: phone_hears(ana, VOICE), "the caller's voice")

        page = AgentPage(server.portal)
        await page.log_in("carla", "carla-agent")
        await page.post(f"/agent/calls/{contact}/listen", {})
        await carla.event("CALL_INCOMING")
        await carla.accept()
        await server.event("contact.supervised", mode="listen", agent_id="agent-carla")
        await hears(carla, VOICE, ANA)
        await hears(ana, VOICE)
        await hears(caller, ANA)

        await page.post(f"/agent/calls/{contact}/whisper", {})
        await hears(ana, VOICE, CARLA)
        await hears(caller, ANA)

        await page.post(f"/agent/calls/{contact}/barge", {})
        await hears(caller, ANA, CARLA)

        async def reports() -> bool:
            _, shown = await page.get(f"/agent/calls/{contact}/quality")
            return shown.count("There and back") > 3 and "–" not in shown.split("<tbody>")[1]

        # To each of the three at least one way is mixed: those reports are our own.
        await until(reports, "all three to tell how long it takes there and back", seconds=30)

        await page.post(f"/agent/calls/{contact}/leave", {})
        await carla.event("CALL_CLOSED")
        await hears(caller, ANA)
        await hears(ana, VOICE)
        assert [
            row["facts"]["mode"] for row in server.events(contact) if row["kind"] == "contact.supervised"
        ] == [
            "listen",
            "whisper",
            "barge",
        ]
        await caller.hang_up()
        await server.event("contact.ended", contact_id=contact)


async def test_a_supervisor_whose_phone_crashes_ends_nothing(tmp_path: Path) -> None:
    async with (
        CentreOfTones(tmp_path) as server,
        phone(tmp_path, server, "ana", tone=ANA, **PCMU) as ana,
        phone(tmp_path, server, "carla", tone=CARLA, **PCMU) as carla,
        telephone(tmp_path, server, "+15550100001") as caller,
    ):
        await make_ready(server, ana)
        contact = await calls(server, caller)
        await ana.event("CALL_INCOMING")
        await ana.accept()
        await server.event("contact.connected", contact_id=contact)
        page = AgentPage(server.portal)
        await page.log_in("carla", "carla-agent")
        await page.post(f"/agent/calls/{contact}/barge", {})
        await carla.event("CALL_INCOMING")
        await carla.accept()
        await hears(caller, ANA, CARLA)
        await carla.process.kill()
        ended = await server.event("contact.supervision_ended", contact_id=contact, seconds=45)
        assert ended["facts"]["why"] == "lost"
        await hears(caller, ANA)
        await hears(ana, VOICE)
        assert "contact.ended" not in server.kinds(contact)
