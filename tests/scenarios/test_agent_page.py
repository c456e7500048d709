"""What the agent sees, and who else may see it."""

from __future__ import annotations

import html
from pathlib import Path

from tests.peers.agent_page import AgentPage
from tests.peers.people import BOILER_ARTICLE, Reader, make_ready, phone
from tests.peers.warmline import Warmline


async def test_the_context_page_is_for_that_agent_while_the_contact_is_theirs(tmp_path: Path) -> None:
    async with Warmline(tmp_path, wrap_up_s=0) as server, phone(tmp_path, server, "ana") as ana:
        mine, other = AgentPage(server.portal), AgentPage(server.portal)
        await mine.log_in("ana", "ana-agent")
        await other.log_in("bo", "bo-agent")
        await make_ready(server, ana)
        async with Reader(tmp_path, server, BOILER_ARTICLE) as maria:
            await maria.page.wait_for_timeout(6000)
            await maria.ask_for("voice")
            await ana.event("CALL_INCOMING")
            link = ana.invites()[-1].header("Call-Info")
            path = link[link.index("/context/") : link.index(">")]

            status, page = await mine.get(path)
            assert status == 200
            seen = html.unescape(page)
            for part in (
                "Maria Lopez",
                "Boiler 200",
                "Pressure keeps dropping",
                "read 'Pressure keeps dropping' for",
            ):
                assert part in seen, part
            assert (await other.get(path))[0] in {403, 404}
            assert (await AgentPage(server.portal).get(path))[1].count('name="password"') == 1

            await ana.accept()
            await server.event("contact.connected")
            assert (await mine.get(path))[0] == 200
            await maria.hang_up()
            await server.event("contact.ended")
            await server.agent_is("agent-ana", "Ready")
            assert (await mine.get(path))[0] in {403, 404}


async def test_not_ready_by_page_and_by_feature_code(tmp_path: Path) -> None:
    async with Warmline(tmp_path) as server, phone(tmp_path, server, "ana") as ana:
        page = AgentPage(server.portal)
        await page.log_in("ana", "ana-agent")
        await make_ready(server, ana)
        await page.set_state("not-ready")
        await server.agent_is("agent-ana", "NotReady")
        await make_ready(server, ana)
        await ana.dial("*72")
        await server.agent_is("agent-ana", "NotReady")
