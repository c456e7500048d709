"""What must hold of a server's database and event log after kill -9 and a new start, whenever it was killed."""

from __future__ import annotations

import json
import time
import wave
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.peers.warmline import Warmline

Row = dict[str, Any]
SHORTEST_MESSAGE_S = 1.0
# Whoever was kept may have been served, and have hung up, by the time it is looked.
SERVED = {None, "customer_hung_up", "agent_hung_up"}


@dataclass
class Promises:
    """What people were told is so: a contact by its id, a caller by their number, a line by (contact, sender, text)."""

    contacts: set[str] = field(default_factory=set)
    callers: set[str] = field(default_factory=set)
    lines: set[tuple[str, str, str]] = field(default_factory=set)
    call_backs: set[str] = field(default_factory=set)  # callers who heard that they will be called back
    messages: set[str] = field(default_factory=set)  # callers who were thanked for a message
    codes: dict[str, str] = field(default_factory=dict)  # by contact


@dataclass
class Stored:
    """All that is on the disk at one moment."""

    contacts: dict[str, Row]
    messages: dict[str, Row]
    voicemails: dict[str, Row]  # by contact
    agents: dict[str, Row]
    phones: set[tuple[str, str]]  # registrations that have not run out
    events: dict[str, list[Row]]  # by contact

    @classmethod
    def of(cls, server: Warmline) -> Stored:
        phones = server.rows("SELECT aor, binding_key FROM binding WHERE expires_at > ?", time.time() + 10)
        events: dict[str, list[Row]] = defaultdict(list)
        for row in server.events():
            if row["contact_id"]:
                events[row["contact_id"]].append(row)
        return cls(
            {row["id"]: row for row in server.rows("SELECT * FROM contact")},
            {row["id"]: row for row in server.rows("SELECT * FROM message")},
            {row["contact_id"]: row for row in server.rows("SELECT * FROM voicemail")},
            {row["agent_id"]: row for row in server.rows("SELECT * FROM agent_state")},
            {(row["aor"], row["binding_key"]) for row in phones},
            events,
        )


def kept_promises(now: Stored, promises: Promises) -> None:
    assert promises.contacts <= now.contacts.keys(), "a contact that was promised is gone"
    by_number = {row["number"]: row for row in now.contacts.values() if row["number"]}
    assert promises.callers <= by_number.keys(), "a caller who was answered is in no list"
    said = Counter((row["contact_id"], row["sender"], row["text"]) for row in now.messages.values())
    assert [line for line in promises.lines if said[line] != 1] == [], "a line is lost, or doubled"
    assert [line for line, times in said.items() if times != 1] == [], "a line is doubled"
    for number in promises.call_backs:
        row = by_number[number]
        cut_off = row["disposition"] == "server_died" and row["connected_at"] is None
        assert not cut_off, f"{number} is not called back: {row}"
    for number in promises.messages:
        row = by_number[number]
        assert row["disposition"] == "voicemail", f"the message of {number} is lost: {row}"
        assert row["id"] in now.voicemails
    for contact, code in promises.codes.items():
        assert now.contacts[contact]["wrap_up_code"] == code


def resumed(before: Stored, now: Stored) -> None:
    """`before` is what the dead process left; each contact that was open is in its place, or over and it says why."""
    for contact, was in before.contacts.items():
        row = now.contacts[contact]
        for same in ("asked_at", "place_at", "queue", "channel", "customer_id", "number", "wrap_up_code"):
            assert row[same] == was[same], f"{same} of {contact} was {was[same]} and is {row[same]}"
        if not _open(was):
            assert row["disposition"] == was["disposition"]
            continue
        expected = outcome(was, before.voicemails.get(contact))
        found = row["disposition"]
        if expected is None:
            assert found in SERVED, f"{was} was to be kept, and is {row}"
        else:
            assert found == expected, f"{was} was to end as {expected}, and is {row}"
    assert before.messages.keys() <= now.messages.keys(), "a line is lost"
    for message, was in before.messages.items():
        assert now.messages[message]["text"] == was["text"]
    assert before.phones <= now.phones, "a registration is lost"
    for agent, was in before.agents.items():
        assert now.agents[agent]["wants_ready"] == was["wants_ready"], f"{agent} was {was}"


def outcome(was: Row, voicemail: Row | None) -> str | None:
    """How a contact that a dead process left open is to end; None: it waits on."""
    if voicemail is not None and length_of(voicemail) >= SHORTEST_MESSAGE_S:
        return "voicemail"
    joined = was["state"] == "connected"
    if was["channel"] == "chat" or (_call_back(was) is not None and not joined):
        return None
    if was["trunk"] is None and not joined:
        return None
    return "server_died"


def length_of(voicemail: Row) -> float:
    if voicemail["seconds"] is not None:
        return float(voicemail["seconds"])
    path = Path(voicemail["path"])
    # As said in the head, a recording that was cut off may be longer or shorter than it is.
    return (path.stat().st_size - 44) / 16000 if path.exists() else 0.0


def whole(now: Stored) -> None:
    """Contacts and their events tell the same story, with one beginning and at most one end."""
    assert now.events.keys() <= now.contacts.keys(), "the log tells of contacts that there are not"
    for contact, row in now.contacts.items():
        kinds = Counter(event["kind"] for event in now.events[contact])
        assert kinds["contact.requested"] == 1, f"{contact}: {kinds}"
        assert kinds["contact.skills_inferred"] == 1, f"{contact}: {kinds}"
        ends = [event["facts"] for event in now.events[contact] if event["kind"] == "contact.ended"]
        assert len(ends) == (0 if _open(row) else 1), f"{contact} is {row['state']}: {kinds}"
        for end in ends:
            assert end["disposition"] == row["disposition"]
            assert end["whose"]
            assert row["ended_at"]
        if _call_back(row) is not None:
            assert kinds["contact.call_back_asked"], f"{contact}: {kinds}"
        if row["wrap_up_code"]:
            assert kinds["contact.wrapped_up"], f"{contact}: {kinds}"
        assert (row["disposition"] == "voicemail") == (
            contact in now.voicemails and not _open(row) and now.voicemails[contact]["seconds"] is not None
        ), f"{row} with {now.voicemails.get(contact)}"
    for contact, message in now.voicemails.items():
        if message["seconds"] is None:
            continue
        left = [event for event in now.events[contact] if event["kind"] == "contact.voicemail_left"]
        assert len(left) == 1, f"{message}: {left}"
        with wave.open(message["path"], "rb") as recording:
            seconds = recording.getnframes() / recording.getframerate()
            assert len(recording.readframes(recording.getnframes())) == 2 * recording.getnframes()
        assert abs(seconds - message["seconds"]) <= 1.1, f"{message} has {seconds} s"


def nobody_stuck(now: Stored) -> None:
    """For when all is quiet: whoever is held is held by a contact that says so too."""
    for agent, row in now.agents.items():
        held = json.loads(row["active"])
        for contact in held:
            assert _open(now.contacts[contact]), f"{agent} is held by {contact}, which has ended"
            assert now.contacts[contact]["agent_id"] == agent, f"{agent} is held by {contact}"
        if not held:
            assert row["state"] in ("Ready", "NotReady", "Offline"), f"nothing holds {agent}: {row}"


def _open(row: Row) -> bool:
    return bool(row["state"] != "ended")


def _call_back(row: Row) -> Row | None:
    found: Row | None = json.loads(row["call_back"]) if row["call_back"] else None
    return found
