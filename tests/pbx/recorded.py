"""Contact centres in memory in which something has been recorded."""

from __future__ import annotations

import wave
from pathlib import Path

from agent_presence.roster import Agent
from config.queue_settings import DEFAULT, QueueSettings
from config.recording_settings import Recording as Mode
from pbx.contact import Contact
from pbx.recording_store import Recording
from tests.pbx.centre import Centre


def write_wav(path: Path, seconds: float) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(4 * int(8000 * seconds)))


async def opened(folder: Path, mode: Mode = Mode.ALWAYS) -> Centre:
    folder.mkdir(exist_ok=True)
    return await Centre.open(folder=folder, queues=[QueueSettings(DEFAULT, recording=mode)])


async def talking(centre: Centre, customer: str = "maria", agent: str = "ana") -> Contact:
    """A customer of the app and an agent, who is hired where need be, hear each other."""
    if centre.house.roster.agent(f"agent-{agent}") is None:
        await centre.agent(agent)
    contact = await centre.asks(customer)
    await centre.calls_in(contact)
    while len(centre.reception):
        await centre.passes(0.5)
    await centre.settle()
    centre.phone.rung[-1].pick_up()
    await centre.settle()
    assert contact.state.value == "connected"
    return contact


async def recorded(centre: Centre, customer: str = "maria", *, seconds: int = 2) -> Recording:
    """A call that is over, and its recording."""
    contact = await talking(centre, customer)
    for tap in centre.media.taps.values():
        write_wav(Path(tap["path"]), seconds)
    centre.phone.rung[-1].hang_up()
    await centre.passes(11)  # and the agent's wrap-up
    found = await centre.recording_store.latest(None, contact_id=contact.id, limit=5)
    assert len(found) == 1
    return found[0]


async def hire(centre: Centre, name: str, *providers: str, supervisor: bool = True) -> Agent:
    return await centre.house.roster.add_agent(
        name.title(), name, "hash",
        skills={}, provider_ids=providers, supervisor=supervisor, agent_id=f"agent-{name}",
    )  # fmt: skip
