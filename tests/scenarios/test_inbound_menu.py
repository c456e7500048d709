"""A caller of the telephone network is asked what it is about, and helped by whom that takes: baresip as telephone."""

from __future__ import annotations

import json
from pathlib import Path

from tests.peers.baresip import Baresip, tones_in
from tests.peers.people import make_ready, phone, phone_hears
from tests.peers.process import free_sip_port, until
from tests.peers.warmline import Warmline
from tests.scenarios.test_waiting import write_tone

NUMBER, MARIA = "+15550200", "+15550100001"
MENU, VOICE = 2100, 523


async def test_what_a_caller_presses_is_what_the_agent_is_told(tmp_path: Path) -> None:
    sound = tmp_path / "menu.wav"
    write_tone(sound, MENU, 1.5)
    port = free_sip_port()
    menu = {
        "number": NUMBER,
        "file": str(sound),
        "timeout_s": 10,
        "choices": [
            {"key": "1", "say": "your boiler"},
            {"key": "2", "say": "a bill", "skills": ["billing"]},
        ],
    }
    trunk = {"name": "carrier", "peers": [f"127.0.0.1:{port}"]}
    async with (
        Warmline(tmp_path, menus=json.dumps([menu]), trunks=json.dumps([trunk])) as server,
        phone(tmp_path, server, "ana", audio_codecs="pcmu/8000/1", video=False) as ana,
        Baresip(
            tmp_path,
            user=MARIA,
            password="",
            domain="127.0.0.1",
            registrar_port=server.sip_port,
            audio_codecs="pcmu/8000/1",
            video=False,
            tone=VOICE,
            register=False,
            sip_port=port,
        ) as caller,
    ):
        await make_ready(server, ana)
        await caller.dial(f"sip:{NUMBER}@127.0.0.1")
        asked = await server.event("menu.asked", number=NUMBER)

        def hears_the_menu() -> bool:
            heard = caller.heard()
            return heard is not None and tones_in(heard, MENU, last_seconds=0.5) == {MENU}

        await until(hears_the_menu, "the menu to be heard")
        assert "contact.requested" not in server.kinds()
        await caller.command("sndcode", "7")  # none of the choices: it is heard again
        await until(lambda: not hears_the_menu(), "to be told that this was none")
        await until(hears_the_menu, "the menu to be heard again")
        await caller.command("sndcode", "1")
        chosen = await server.event("menu.chosen", key="1", by="key", rounds=2)
        assert chosen["contact_id"] == asked["contact_id"]
        contact = (await server.event("contact.prompted"))["contact_id"]
        assert contact == chosen["contact_id"]
        await ana.event("CALL_INCOMING")
        await ana.accept()
        await server.event("contact.connected", contact_id=contact)
        await until(lambda: phone_hears(ana, VOICE), "the caller's voice")
        await caller.hang_up()
        await server.event("contact.ended", contact_id=contact)
