import asyncio
from tests.scenarios.test_outcomes import *
async def test_opt(tmp_path):
    async with (Warmline(tmp_path) as server, Sipp(tmp_path, "device_answers", server_port=server.sip_port) as device):
        await register(tmp_path, server, "carla", port=device.port)
        await make_ready_by_page(server, "carla")
        async with caller(tmp_path, server) as sipp:
            c=await server.event("contact.connected")
            await asyncio.sleep(25)
            assert "contact.ended" not in server.kinds()
            assert device.messages().count("OPTIONS sip")>=2
            await server.process.stop()
            await device.finished()
