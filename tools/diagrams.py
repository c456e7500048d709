"""Draws the state machines into docs/machines.md, from the tables that run: ``python -m tools.diagrams``."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from agent_presence import agent_state
from pbx import contact
from sip_trunk import trunk_registration
from sip_trunk.sip import client_transaction, dialog, server_transaction
from sip_trunk.sip.machine import Do, Start, StopTimer
from sip_trunk.sip.timers import Timer
from tests.peers.warmline import ROOT

PAGE = ROOT / "docs" / "machines.md"

INTRODUCTION = """\
# The machines

Drawn from the tables by `python -m tools.diagrams`; a test fails when a table and its picture part ways.
An arrow says what happened, and after the stroke what is done about it. What is not drawn changes nothing.
"""

Machine = tuple[str, str, Enum, Mapping[tuple[Any, Any], Any]]

MACHINES: Sequence[Machine] = (
    (
        "INVITE client transaction",
        "`sip_trunk/sip/client_transaction.py`: RFC 3261 §17.1.1, RFC 6026 §7.2. *abandoned* (ours) awaits a late 2xx.",
        client_transaction.State.CALLING,
        client_transaction.INVITE_MOVES,
    ),
    (
        "Non-INVITE client transaction",
        "`sip_trunk/sip/client_transaction.py`: RFC 3261 §17.1.2.",
        client_transaction.State.TRYING,
        client_transaction.NON_INVITE_MOVES,
    ),
    (
        "INVITE server transaction",
        "`sip_trunk/sip/server_transaction.py`: RFC 3261 §17.2.1, RFC 6026 §7.1.",
        server_transaction.State.PROCEEDING,
        server_transaction.INVITE_MOVES,
    ),
    (
        "Non-INVITE server transaction",
        "`sip_trunk/sip/server_transaction.py`: RFC 3261 §17.2.2, RFC 4320.",
        server_transaction.State.TRYING,
        server_transaction.NON_INVITE_MOVES,
    ),
    (
        "Dialog",
        "`sip_trunk/sip/dialog.py`: RFC 3261 §12.",
        dialog.State.EARLY,
        dialog.MOVES,
    ),
    (
        "Contact",
        "`pbx/contact.py`: from asking for help to disposition.",
        contact.State.WAITING,
        contact.MOVES,
    ),
    (
        "Registration with a trunk",
        "`sip_trunk/trunk_registration.py`: RFC 3261 §10.2, RFC 5626 §4.5. *refused* waits longer than *waiting*.",
        trunk_registration.State.UNREGISTERED,
        trunk_registration.MOVES,
    ),
    (
        "Agent",
        "`agent_presence/agent_state.py`: readiness is said by the agent, the rest follows from calls and phones.",
        agent_state.AgentState.OFFLINE,
        agent_state.MOVES,
    ),
)


def page() -> str:
    """The whole of docs/machines.md."""
    return "\n".join([INTRODUCTION, *(_chapter(*machine) for machine in MACHINES)])


def _chapter(title: str, about: str, first: Enum, moves: Mapping[tuple[Any, Any], Any]) -> str:
    # Between two states there is one arrow, with a line for all events that have the same effects.
    arrows: dict[tuple[str, str], dict[str, list[str]]] = {}
    for (state, event), move in moves.items():
        after, steps = move if isinstance(move, tuple) else (move, ())
        done = ", ".join(filter(None, map(_step, steps)))
        arrows.setdefault((_name(state), _name(after)), {}).setdefault(done, []).append(_event(event))
    names = dict.fromkeys(name for ends in arrows for name in ends)
    lines = [f'    state "{name}" as {_id(name)}' for name in names]
    lines.append(f"    [*] --> {_id(_name(first))}")
    for (before, after), labels in arrows.items():
        said = [", ".join(events) + (f" / {done}" if done else "") for done, events in labels.items()]
        lines.append(f"    {_id(before)} --> {_id(after)} : {'<br/>'.join(said)}")
    return f"## {title}\n\n{about}\n\n```mermaid\nstateDiagram-v2\n" + "\n".join(lines) + "\n```\n"


def _name(state: Enum) -> str:
    return str(state.value)


def _id(name: str) -> str:
    return name.replace(" ", "_")


def _event(event: Enum) -> str:
    text = f"timer {event.value}" if isinstance(event, Timer) else str(event.value)
    return text.replace(";", ",")  # a semicolon ends a statement of mermaid's


def _step(step: object) -> str:
    match step:
        case Start(timer):
            return f"start {timer.value}"
        case StopTimer():
            return ""  # that a timer of a state that was left stops goes without saying
        case Do():
            return step.value
    return ""


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(f"Drew {len(MACHINES)} machines into {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
