"""kill -9 at every step of the story, and again and again: nothing promised is lost, and nobody is stuck.

Several stories go on at once. As soon as the step that is tried is on the disk, or somebody has been told that it is
so, the server is killed and started again; the laws of crash_laws.py are looked at, the stories are brought to their
ends, and the next step is tried in the same database. WARMLINE_CRASH_ROUNDS tries each step so many times, later ones
some milliseconds late.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from media.prompts import NAMES
from sip_trunk.user_agent import IncomingCall
from tests.peers.agent_page import AgentPage
from tests.peers.customer_page import CustomerPage
from tests.peers.process import PeerFailed, until
from tests.peers.telephone_network import Telephone, TelephoneNetwork
from tests.peers.text_phone import TextPhone
from tests.peers.warmline import Warmline
from tests.scenarios import crash_laws
from tests.scenarios.crash_laws import Promises, Row, Stored
from tests.scenarios.test_waiting import write_tone

ROUNDS = int(os.environ.get("WARMLINE_CRASH_ROUNDS", "1"))
SEED = int(os.environ.get("WARMLINE_CRASH_SEED", "4"))
LATEST_S = 0.15  # how late after its step a kill may come

BOILER, CAMERA = "+15550200", "+15550300"
BOILER_ARTICLE, PICTURE_ARTICLE = "boiler-200-pressure-drops", "camera-s2-dark-picture"
# A request that a dying server leaves without an answer.
CUT = (OSError, http.client.HTTPException, PeerFailed, json.JSONDecodeError)

EVENTS = (
    *("requested", "skills_inferred", "invited", "queued", "reserved", "prompted", "declined", "no_answer"),
    *("accepted", "connected", "held", "unheld", "consulting", "consulted", "transferred", "ended"),
    *("wrapped_up", "key_pressed", "call_back_asked", "calling_back", "call_back_answered"),
    "voicemail_left",
)
ROWS = {
    "a line": "SELECT 1 FROM message WHERE at > ?",
    "a line delivered": "SELECT 1 FROM message WHERE delivered_at > ?",
    "a message begun": "SELECT 1 FROM voicemail WHERE left_at > ?",
    "a message left": "SELECT 1 FROM voicemail WHERE left_at > ? AND seconds IS NOT NULL",
    "an agent writing up": "SELECT 1 FROM agent_state WHERE since > ? AND state = 'WrapUp'",
    "a chat over": "SELECT 1 FROM contact WHERE ended_at > ? AND channel = 'chat'",
}
TOLD = ("asked", "said", "answered", "written", "will be called back", "thanked", "said what became of it")
SPOKEN = "words on the disk"
STEPS = (*(f"contact.{kind}" for kind in EVENTS), *ROWS, *(f"told: {what}" for what in TOLD), SPOKEN)
# Close to others: tried from the second round on.
SELDOM = {
    *("contact.unheld", "contact.consulting", "contact.key_pressed"),
    *("a message left", "an agent writing up", "a chat over"),
}


class AgentsPhone(TextPhone):
    """Picks up, but for the calls that `refuses` names first: "decline", or "ring" on and on."""

    refuses: list[str]

    def _on_invite(self, call: IncomingCall) -> None:
        what = self.refuses.pop(0) if self.refuses else "accept"
        if what == "accept":
            super()._on_invite(call)
            return
        call.on_event = lambda event: None
        call.ring()
        if what == "decline":
            call.refuse(603)


class Stage:
    """The people, for as long as the server is killed around them. Ana is ready for boilers; Bo may be asked; Carla,
    who alone knows pictures, comes at the end, and two wait for her all the while."""

    def __init__(self, server: Warmline, phones: dict[str, AgentsPhone], network: TelephoneNetwork) -> None:
        self.server = server
        self.phones = phones
        self.network = network
        self.pages = {name: AgentPage(server.portal) for name in phones}
        self.customers = {name: CustomerPage(server.portal) for name in ("jonas", "maria", "aiko")}
        self.promises = Promises()
        self.waiting: list[str] = []
        self.positions: list[int | None] = []
        self.told: set[str] = set()
        self.lines = 0
        self.callers = 0
        self.since_seq = 0
        self.since_at = 0.0
        self.unsure: tuple[str, str, str] | None = None  # contact, key, text of a line that was not answered

    @property
    def ana(self) -> AgentsPhone:
        return self.phones["ana"]

    @property
    def jonas(self) -> CustomerPage:
        return self.customers["jonas"]

    async def begins(self) -> None:
        for name, page in self.pages.items():
            await page.log_in(name, f"{name}-agent")
        for name, customer in self.customers.items():
            await customer.log_in(name)
        aiko, maria = self.customers["aiko"], self.customers["maria"]
        self.waiting = [await aiko.ask_for_chat("camera-s2", PICTURE_ARTICLE, "it is dark")]
        self.waiting.append(await maria.ask_for("voice", "camera-s2", PICTURE_ARTICLE))
        await maria.ask_to_be_called_back("phone")
        self.positions = [await aiko.position(), await maria.position()]
        self.promises.contacts |= set(self.waiting)
        await self.pages["ana"].set_state("ready")

    # What is read of the server

    def one(self, statement: str, *parameters: object) -> Row | None:
        found = self.server.rows(f"{statement} LIMIT 1", *parameters)
        return found[0] if found else None

    async def happened(self, kind: str, contact: str) -> Row:
        statement = "SELECT * FROM event WHERE seq > ? AND kind = ? AND contact_id = ?"
        return await until(
            lambda: self.one(statement, self.since_seq, kind, contact), f"{kind} of {contact}", seconds=25
        )

    async def contact_of(self, number: str) -> str:
        row = await until(
            lambda: self.one("SELECT id FROM contact WHERE number = ?", number), f"the contact of {number}"
        )
        return str(row["id"])

    def tells(self, what: str) -> None:
        self.told.add(f"told: {what}")

    # The stories

    async def calls(self, number: str) -> Telephone:
        self.callers += 1
        caller = f"+155509{self.callers:05}"
        telephone = await self.network.calls(number, caller)
        self.promises.callers.add(caller)
        self.tells("answered")
        return telephone

    async def ana_does(self, contact: str, what: str, **fields: str) -> None:
        status, page = await self.pages["ana"].post(f"/agent/contacts/{contact}/do/{what}", fields)
        assert status == 200, f"{what}: {status} {page[-2000:]}"

    async def is_passed_on(self, then: asyncio.Event) -> None:
        """A caller whom Ana puts on hold, asks Bo about, and passes on to him."""
        telephone = await self.calls(BOILER)
        contact = await self.contact_of(telephone.number)
        await self.happened("contact.connected", contact)
        then.set()
        await self.ana_does(contact, "hold")
        await self.ana_does(contact, "unhold")
        await self.ana_does(contact, "consult", to="agent:agent-bo")
        await self.happened("contact.consulted", contact)
        await self.ana_does(contact, "complete")
        await self.happened("contact.transferred", contact)
        await self.ana_does(contact, "wrap-up", code="resolved", note="")
        self.promises.codes[contact] = "resolved"
        self.tells("said what became of it")
        telephone.hangs_up()
        await self.happened("contact.ended", contact)

    async def is_called_back(self, when: asyncio.Event) -> None:
        """A caller who finds Ana busy, and hangs up to be called back."""
        await when.wait()
        telephone = await self.calls(BOILER)
        await self.presses_until("1", telephone, telephone.over.is_set)
        self.promises.call_backs.add(telephone.number)
        self.tells("will be called back")
        contact = await self.contact_of(telephone.number)
        await self.happened("contact.ended", contact)

    async def leaves_a_message(self) -> None:
        """A caller for whom nobody is there."""
        telephone = await self.calls(CAMERA)
        contact = await self.contact_of(telephone.number)
        begun = "SELECT path FROM voicemail WHERE contact_id = ?"
        await self.presses_until("2", telephone, lambda: self.one(begun, contact) is not None)
        row = self.one(begun, contact)
        assert row is not None
        path = Path(row["path"])
        await until(path.exists, "the recording")
        speaking = asyncio.ensure_future(telephone.speaks(4.0))
        await until(lambda: path.stat().st_size > 44 + 1.5 * 16000, "the words on the disk")
        self.told.add(SPOKEN)
        await until(lambda: path.stat().st_size > 44 + 2.2 * 16000, "more words on the disk")
        telephone.presses("#")
        await until(telephone.over.is_set, "the end of the call")
        await speaking
        self.promises.messages.add(telephone.number)
        self.tells("thanked")

    async def presses_until(self, key: str, telephone: Telephone, so: Callable[[], bool]) -> None:
        """Till it has been offered, a key is not heard."""
        for _ in range(100):
            telephone.presses(key)
            await asyncio.sleep(0.1)
            if so():
                return
        raise PeerFailed(f"key {key} of {telephone.number} came to nothing")

    async def chats(self) -> None:
        contact = await self.jonas.ask_for_chat("boiler-200", BOILER_ARTICLE)
        self.promises.contacts.add(contact)
        self.tells("asked")
        await self.jonas_says("the pressure drops")
        await self.happened("contact.connected", contact)
        await self.jonas_says("again and again")
        self.lines += 1
        text = f"line {self.lines} of Ana"
        if await self.ana.says(contact, text) == 200:
            self.promises.lines.add((contact, "agent", text))
            self.tells("written")
        await self.jonas.end()

    async def jonas_says(self, text: str) -> None:
        self.lines += 1
        text, key = f"line {self.lines}: {text}", f"key-{self.lines}"
        self.unsure = self.jonas.contact, key, text
        await self.jonas.say(text, key)
        self.unsure = None
        self.promises.lines.add((self.jonas.contact, "customer", text))
        self.tells("said")

    # One round

    async def plays(self, step: str, late_s: float) -> None:
        """All stories at once, till the step has come and the server is killed."""
        row = self.one("SELECT seq, at FROM event ORDER BY seq DESC")
        assert row is not None
        self.since_seq, self.since_at = row["seq"], row["at"]
        self.told.clear()
        self.ana.refuses[:] = ["decline", "ring"]
        connected = asyncio.Event()
        stories: list[Coroutine[Any, Any, None]] = [
            self.is_passed_on(connected),
            self.is_called_back(connected),
            self.leaves_a_message(),
            self.chats(),
        ]
        playing = [asyncio.ensure_future(story) for story in stories]
        try:
            await until(lambda: self.reached(step, playing), f"{step} to come", seconds=40, every=0.004)
            await asyncio.sleep(late_s)
            await self.server.kill()
            # Whoever was told something just before is heard yet; whoever was not has lost their server.
            await asyncio.wait(playing, timeout=0.1)
        finally:
            for story in playing:
                story.cancel()
            done = await asyncio.gather(*playing, return_exceptions=True)
        for error in done:
            if isinstance(error, Exception) and not isinstance(error, CUT):
                raise error

    def reached(self, step: str, playing: Sequence[asyncio.Future[None]]) -> bool:
        for story in playing:
            if story.done() and story.exception() is not None:
                story.result()
        if step in ROWS:
            return self.one(ROWS[step], self.since_at) is not None
        if step.startswith("contact."):
            statement = "SELECT 1 FROM event WHERE seq > ? AND kind = ?"
            return self.one(statement, self.since_seq, step) is not None
        return step in self.told

    async def recovers(self) -> None:
        """Start again, look at the laws, and bring everything to its end."""
        before = Stored.of(self.server)
        self.ana.refuses.clear()
        for phone in self.phones.values():
            phone.hangs_up()
        self.network.hangs_up()
        await self.server.start()
        now = await self.resumed(before)
        crash_laws.kept_promises(now, self.promises)
        await self.jonas_goes_on(now)
        await self.others_wait_on()
        await self.to_be_so(self.quiet, "everything to end")
        now = Stored.of(self.server)
        crash_laws.kept_promises(now, self.promises)
        crash_laws.whole(now)
        crash_laws.nobody_stuck(now)
        for phone in self.phones.values():
            await phone.registers()

    async def resumed(self, before: Stored) -> Stored:
        """The ends of those who were cut off are on the disk a moment after the server is up."""
        deadline = time.monotonic() + 3.0
        while True:
            now = Stored.of(self.server)
            try:
                crash_laws.resumed(before, now)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)
            else:
                return now

    async def jonas_goes_on(self, now: Stored) -> None:
        """His page finds what it had asked for, says again what it does not know to be heard, and is served."""
        theirs = [
            row for row in now.contacts.values() if row["customer_id"] == "jonas" and row["state"] != "ended"
        ]
        unsure, self.unsure = self.unsure, None
        if not theirs:
            return
        contact = await self.jonas.ask_for_chat("boiler-200", BOILER_ARTICLE)
        assert [row["id"] for row in theirs] == [contact], "asked for again, it is the same contact"
        self.promises.contacts.add(contact)
        if unsure is not None and unsure[0] == contact:
            _, key, text = unsure
            await self.jonas.say(text, key)
            self.promises.lines.add((contact, "customer", text))
        connected = "SELECT 1 FROM contact WHERE id = ? AND state = 'connected' AND agent_id = 'agent-ana'"
        await self.to_be_so(lambda: self.one(connected, contact) is not None, "Jonas to be served")
        for line in sorted(self.promises.lines):
            if line[:2] == (contact, "customer"):
                await self.ana.shows(contact, line[2])
        await self.jonas.end()

    async def others_wait_on(self) -> None:
        places = [
            self.server.rows("SELECT place_at FROM contact WHERE id = ?", each) for each in self.waiting
        ]
        assert places == sorted(places, key=lambda rows: rows[0]["place_at"])
        assert self.positions == [await self.customers[name].position() for name in ("aiko", "maria")]

    async def to_be_so(self, check: Callable[[], bool], what: str) -> None:
        try:
            await until(check, what, seconds=25)
        except PeerFailed as error:
            raise PeerFailed(f"{error}; there is {self.left()}") from None

    def left(self) -> list[Row]:
        return [
            *self.server.rows(
                "SELECT id, channel, state, agent_id, number, call_back FROM contact WHERE state != 'ended'"
            ),
            *self.server.rows("SELECT * FROM agent_state"),
        ]

    def quiet(self) -> bool:
        opened = {row["id"] for row in self.server.rows("SELECT id FROM contact WHERE state != 'ended'")}
        ana = self.one("SELECT * FROM agent_state WHERE agent_id = 'agent-ana'")
        bo = self.one("SELECT * FROM agent_state WHERE agent_id = 'agent-bo'")
        return (
            opened == set(self.waiting)
            and ana is not None
            and ana["state"] == "Ready"
            and (bo is None or bo["state"] == "NotReady")
        )

    async def ends(self) -> None:
        """Carla comes: who waited through all of it is served, in order."""
        await self.pages["carla"].set_state("ready")
        chat, call = self.waiting
        await until(
            lambda: self.one("SELECT 1 FROM contact WHERE id = ? AND state = 'connected'", chat), "the chat"
        )
        await self.phones["carla"].shows(chat, "it is dark")
        await self.customers["aiko"].end()
        await until(
            lambda: self.one("SELECT 1 FROM contact WHERE id = ? AND state = 'ended'", call), "the call back"
        )
        reserved = self.server.rows(
            "SELECT contact_id FROM event WHERE kind = 'contact.reserved' AND agent_id = 'agent-carla' ORDER BY seq"
        )
        assert [row["contact_id"] for row in reserved] == self.waiting
        (row,) = self.server.rows("SELECT disposition FROM contact WHERE id = ?", call)
        assert row["disposition"] == "customer_hung_up"


@asynccontextmanager
async def staged(tmp_path: Path) -> AsyncIterator[Stage]:
    soon = {"pause_s": 0.3, "not_ready_after": 0}
    queue = {"name": "default", "comfort_s": 0, "overflow": "voicemail", "declined": soon, "no_answer": soon}
    server = Warmline(tmp_path, queues=json.dumps([queue]), ring_s=1.0, wrap_up_s=1.0, call_back_again_s=1)
    trunk = {
        "name": "carrier",
        "peers": [f"127.0.0.1:{server.trunk_port}"],
        "options_s": 0,
        "dial": ["+1555"],
    }
    server.environment["WARMLINE_TRUNKS"] = json.dumps([trunk])
    prompts = Path(str(server.settings["data"])) / "prompts"
    prompts.mkdir(parents=True)
    for name in NAMES:
        write_tone(prompts / f"{name}.wav", 400, 2.0 if name == "music" else 0.1)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(server)
        phones = {}
        for name in ("ana", "bo", "carla"):
            phone = AgentsPhone(server, name)
            phone.refuses = []
            phones[name] = await stack.enter_async_context(phone)
        network = await stack.enter_async_context(TelephoneNetwork(server, talk_s=0.6))
        stage = Stage(server, phones, network)
        await stage.begins()
        yield stage


@pytest.mark.timeout(300 + 600 * ROUNDS)
async def test_nothing_is_lost_and_nobody_is_stuck_whenever_the_server_dies(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    async with staged(tmp_path) as stage:
        for number in range(ROUNDS):
            for step in STEPS if number else [step for step in STEPS if step not in SELDOM]:
                late_s = chance.uniform(0, LATEST_S) if number else 0.0
                try:
                    await stage.plays(step, late_s)
                    await stage.recovers()
                except (AssertionError, TimeoutError, *CUT) as error:
                    raise AssertionError(f"killed {late_s * 1000:.0f} ms after {step}: {error}") from error
        await stage.ends()
