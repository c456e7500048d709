"""Why it went to her: the commands that tell it, that change the rules, and that try changed rules on what was."""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path
from typing import Any

from tests.peers.agent_page import AgentPage
from tests.peers.customer_page import CustomerPage
from tests.peers.people import CAMERA_ARTICLE, make_ready_by_page
from tests.peers.process import Process
from tests.peers.text_phone import TextPhone
from tests.peers.warmline import Warmline

_numbers = count()


async def said(server: Warmline, *arguments: str, status: int = 0) -> str:
    """What a command prints, with the server's own settings."""
    process = Process(
        f"{arguments[0]}-{next(_numbers)}",  # a log of its own
        [sys.executable, "-m", "pbx.cli", *arguments],
        folder=server.folder,
        environment=server.environment,
    )
    async with process:
        assert await process.wait(30) == status, process.output()
    return process.output()


async def asks(server: Warmline, person: str) -> str:
    """A sample customer asks for a chat about pairing their camera, and somebody takes it."""
    page = CustomerPage(server.portal)
    await page.log_in(person)
    contact = await page.ask_for_chat("camera-s2", CAMERA_ARTICLE, "It will not pair.")
    await server.event("contact.connected", contact_id=contact)
    await page.end()
    await server.event("contact.ended", contact_id=contact)
    return contact


async def test_the_commands_tell_why_change_the_rules_and_try_them_on_what_was(tmp_path: Path) -> None:
    queues = json.dumps(
        [
            {
                "name": "cameras",
                "product": "camera-s2",
                "strategy": "best-skill",
                "relax": [{"after_s": 20, "drop": 1}],
            }
        ]
    )
    async with (
        Warmline(tmp_path, queues=queues, wrap_up_s=1) as server,
        TextPhone(server, "bo"),
        TextPhone(server, "carla"),
        TextPhone(server, "deniz"),
    ):
        for name in ("bo", "carla", "deniz"):
            await make_ready_by_page(server, name)
        first = await asks(server, "maria")

        # Who was asked, and why not the others.
        told = await said(server, "why", first)
        assert "Carla Rossi was asked; took it" in told
        assert "has wifi-pairing at 4; Carla Rossi at 5" in told  # Bo
        assert "Ana Ferreira" in told
        assert "no phone of theirs is registered" in told
        assert "asked for help from" in told
        as_json: dict[str, Any] = json.loads(await said(server, "why", first, "--json"))
        choice = as_json["choices"][0]
        assert (choice["chosen"], choice["outcome"], choice["agrees"]) == ("agent-carla", "accepted", True)
        assert choice["strategy"] == "best-skill"
        assert "there is no contact c_none" in (await said(server, "why", "c_none", status=1)).lower()

        # The rules of Lumio: pairing is a matter of billing from now on, as its article is concerned.
        assert "lumio" in await said(server, "rules", "list")
        file = tmp_path / "changed.toml"
        rules = await said(server, "rules", "show", "lumio")
        file.write_text(
            rules
            + '\n[[rules.lumio]]\nwhen = "article"\nvalue = "camera-s2-pairing-fails"\nskill = "billing"\nweight = 5\n'
        )
        tried = await said(server, "replay", "--rules", str(file), "--since", "1h")
        assert "1 contacts" in tried
        assert "1 of them need something else" in tried
        assert "1 x Carla Rossi -> Deniz Aydin" in tried
        figures = json.loads(await said(server, "replay", "--rules", str(file), "--since", "1h", "--json"))
        assert figures["queues_as_told"] is True
        (queue,) = figures["queues"]
        assert (queue["was"]["joined"], queue["before"]["joined"], queue["after"]["joined"]) == (1, 1, 1)
        assert abs(queue["before"]["mean_wait_s"] - queue["was"]["mean_wait_s"]) < 1.0

        assert "version 2 is in force" in await said(
            server, "rules", "put", "lumio", str(file), "--note", "they ask for bills"
        )
        assert "they ask for bills" in await said(server, "rules", "history", "lumio")

        # The running server notices, and says which version it went by.
        async def noticed() -> bool:
            contact = await asks(server, "aiko")
            (inferred,) = (
                event for event in server.events(contact) if event["kind"] == "contact.skills_inferred"
            )
            return bool(inferred["facts"]["rules_version"] == 2)

        for _ in range(4):
            if await noticed():
                break
        last = server.events()[-1]["seq"]
        reserved = [
            event for event in server.events() if event["kind"] == "contact.reserved" and event["seq"] <= last
        ]
        assert reserved[-1]["agent_id"] == "agent-deniz"
        assert "Deniz Aydin was asked" in await said(server, "why", reserved[-1]["contact_id"])

        await said(server, "rules", "back", "lumio", "1")
        assert "version 1 again" in await said(server, "rules", "history", "lumio")
        wrong = tmp_path / "wrong.json"
        wrong.write_text('[{"when": "artcle", "value": "x", "skill": "billing"}]')
        refused = await said(server, "rules", "put", "lumio", str(wrong), "--note", "x", status=1)
        assert "there is no kind 'artcle'" in refused
        assert "Traceback" not in refused


async def test_a_contact_that_waits_is_told_what_it_waits_for(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, TextPhone(server, "bo"):
        page = CustomerPage(server.portal)
        await page.log_in("maria")
        contact = await page.ask_for_chat("camera-s2", CAMERA_ARTICLE, "It will not pair.")
        await server.event("contact.queued", contact_id=contact)

        async def told() -> str:
            return await said(server, "why", contact)

        waiting = await told()
        assert "waiting for" in waiting
        assert "Bo Lindqvist" in waiting
        assert "not ready" in waiting
        bo = AgentPage(server.portal)
        await bo.log_in("bo", "bo-agent")
        await bo.set_state("ready")
        await server.event("contact.connected", contact_id=contact)
        assert "Bo Lindqvist was asked; took it" in await told()
        await page.end()
