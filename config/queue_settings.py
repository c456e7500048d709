"""The settings of queues: ``[[queues]]`` in warmline.toml, or ``WARMLINE_QUEUES`` as JSON.

A contact waits in the first queue that names its provider, product, channel and the number it dialled; what a queue
leaves out may be any. One that names none of the four is there for what overflows into it. Whatever no queue takes
waits in `default`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from config.recording_settings import Recording
from config.setting_values import seconds, text

DEFAULT = "default"
MAX_QUEUES = 200
MAX_STEPS = 10
CHANNELS = ("", "chat", "voice", "video")


class Strategy(StrEnum):
    """Whom of several agents who may serve a contact it goes to."""

    LONGEST_IDLE = "longest-idle"
    ROUND_ROBIN = "round-robin"  # who was asked longest ago
    FEWEST_CONTACTS = "fewest-contacts"  # who has taken fewest since they came on
    BEST_SKILL = "best-skill"  # who knows best what is needed most
    SPARE_SKILLED = "spare-skilled"  # who knows least besides, so that those who know more stay free


class Overflow(StrEnum):
    """What becomes of a contact that has waited as long as it may."""

    END = "end"
    QUEUE = "queue"  # it goes on in another queue, in its place
    VOICEMAIL = "voicemail"  # a phone caller leaves a message; others end
    CALL_BACK = "call-back"  # it is called back in its place; where no way is known to call it, it ends


@dataclass(frozen=True, slots=True)
class Step:
    """What is asked for less after `after_s` of waiting: every level `lower` less, the weakest `drop` skills not at
    all, `any_language` whoever speaks another. The provider's wall never falls."""

    after_s: float
    lower: int = 0
    drop: int = 0
    any_language: bool = False


@dataclass(frozen=True, slots=True)
class Consequence:
    """What an offer that came to nothing means: `pause_s` until the agent may be asked for this contact again
    (infinity: not again), and after how many such in a row the agent is made not ready (0: never)."""

    pause_s: float = 30.0
    not_ready_after: int = 0


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """One queue. Times in seconds.

    priority_s: the head start its contacts have over those of other queues. prefer_last_s: how long a contact is kept
    for the agent who helped that customer last. comfort_s: how often a caller who waits is told how things stand; 0:
    never. call_back: whether a call back may be had instead of waiting. recording_video: whether pictures are
    recorded too.
    """

    name: str
    provider: str = ""
    product: str = ""
    channel: str = ""
    number: str = ""
    strategy: Strategy = Strategy.LONGEST_IDLE
    priority_s: float = 0.0
    prefer_last_s: float = 0.0
    relax: tuple[Step, ...] = ()
    max_wait_s: float = 1800.0
    overflow: Overflow = Overflow.END
    overflow_queue: str = ""
    comfort_s: float = 45.0
    call_back: bool = True
    recording: Recording = Recording.OFF
    recording_video: bool = True
    declined: Consequence = field(default=Consequence(30.0, 0))
    no_answer: Consequence = field(default=Consequence(60.0, 2))
    busy: Consequence = field(default=Consequence(15.0, 0))
    unreachable: Consequence = field(default=Consequence(30.0, 3))
    asleep: Consequence = field(default=Consequence(15.0, 0))

    @property
    def names_something(self) -> bool:
        return bool(self.provider or self.product or self.channel or self.number)

    def shown(self) -> dict[str, Any]:
        """What was set of it, as it would be set."""
        return {
            each.name: _typed(getattr(self, each.name))
            for each in dataclasses.fields(self)
            if getattr(self, each.name) != each.default
        }


def queues(raw: Any) -> tuple[QueueSettings, ...]:
    """Raises ValueError."""
    if isinstance(raw, str):
        try:
            raw = json.loads(raw) if raw.strip() else []
        except json.JSONDecodeError as error:
            raise ValueError(f"is not JSON: {error}") from None
    if not isinstance(raw, list) or len(raw) > MAX_QUEUES:
        raise ValueError(f"should be a list of at most {MAX_QUEUES} queues")
    read = tuple(_queue(each, place) for place, each in enumerate(raw, 1))
    names = [queue.name for queue in read]
    into = {queue.name: queue.overflow_queue for queue in read if queue.overflow is Overflow.QUEUE}
    for queue in read:
        if names.count(queue.name) > 1:
            raise ValueError(f"two queues have the name {queue.name!r}")
        if queue.name == DEFAULT and queue.names_something:
            raise ValueError("the queue 'default' takes what no other does, and so names nothing")
        if queue.name != DEFAULT and not queue.names_something and queue.name not in into.values():
            raise ValueError(
                f"queue {queue.name!r} would stay empty: it names no provider, product, channel or number, "
                "and no other queue overflows into it"
            )
        if queue.name in into:
            if into[queue.name] not in {*names, DEFAULT} - {queue.name}:
                raise ValueError(
                    f"queue {queue.name!r} overflows into {queue.overflow_queue!r}, which is no other queue"
                )
            _ends(queue.name, into)
    return read


def _ends(name: str, into: Mapping[str, str]) -> None:
    """Nobody may be sent round from queue to queue for ever."""
    passed = [name]
    while passed[-1] in into:
        if into[passed[-1]] in passed:
            raise ValueError(f"queues overflow in a circle: {' -> '.join([*passed, into[passed[-1]]])}")
        passed.append(into[passed[-1]])


def _queue(raw: Any, place: int) -> QueueSettings:
    where = f"queue {place}"
    _only(raw, QueueSettings, where)
    name = raw.get("name")
    if not isinstance(name, str) or not name or len(name) > 64 or not name.isprintable():
        raise ValueError(f"{where} has no name")
    where = f"queue {name!r}"
    values: dict[str, Any] = {"name": name}
    for key in ("provider", "product", "number", "overflow_queue"):
        values[key] = text(raw.get(key, ""))
    for key in ("priority_s", "prefer_last_s", "max_wait_s", "comfort_s"):
        if key in raw:
            values[key] = seconds(raw[key])
    values["channel"] = _one_of(raw.get("channel", ""), CHANNELS, f"{where}: channel")
    values["strategy"] = Strategy(
        _one_of(raw.get("strategy", Strategy.LONGEST_IDLE), tuple(Strategy), f"{where}: strategy")
    )
    values["overflow"] = Overflow(
        _one_of(raw.get("overflow", Overflow.END), tuple(Overflow), f"{where}: overflow")
    )
    values["recording"] = Recording(
        _one_of(raw.get("recording", Recording.OFF), tuple(Recording), f"{where}: recording")
    )
    for key in ("call_back", "recording_video"):
        if not isinstance(raw.get(key, True), bool):
            raise ValueError(f"{where}: {key} should be true or false")
        values[key] = raw.get(key, True)
    values["relax"] = _steps(raw.get("relax", []), where)
    for key in ("declined", "no_answer", "busy", "unreachable", "asleep"):
        if key in raw:
            values[key] = _consequence(raw[key], f"{where}: {key}")
    return QueueSettings(**values)


def _typed(value: Any) -> Any:
    match value:
        case tuple():
            return [_typed(each) for each in value]
        case Step() | Consequence():
            return {name: _typed(part) for name, part in dataclasses.asdict(value).items()}
        case float() if math.isinf(value):
            return "never"
    return value


def _steps(raw: Any, where: str) -> tuple[Step, ...]:
    if not isinstance(raw, list) or len(raw) > MAX_STEPS:
        raise ValueError(f"{where}: relax should be a list of at most {MAX_STEPS} steps")
    steps = []
    for each in raw:
        _only(each, Step, f"{where}: a step of relax")
        any_language = each.get("any_language", False)
        if not isinstance(any_language, bool):
            raise ValueError(f"{where}: any_language should be true or false")
        steps.append(
            Step(
                seconds(each.get("after_s")),
                _whole(each.get("lower", 0), 0, 5, f"{where}: lower"),
                _whole(each.get("drop", 0), 0, 99, f"{where}: drop"),
                any_language,
            )
        )
    if [step.after_s for step in steps] != sorted({step.after_s for step in steps}):
        raise ValueError(f"{where}: the steps of relax should come one after another")
    return tuple(steps)


def _consequence(raw: Any, where: str) -> Consequence:
    _only(raw, Consequence, where)
    pause = raw.get("pause_s", 30.0)
    return Consequence(
        math.inf if pause == "never" else seconds(pause),
        _whole(raw.get("not_ready_after", 0), 0, 100, f"{where}: not_ready_after"),
    )


def _only(raw: Any, kind: type, where: str) -> None:
    if not isinstance(raw, Mapping):
        raise ValueError(f"{where} should be a table")
    strange = raw.keys() - {each.name for each in dataclasses.fields(kind)}
    if strange:
        raise ValueError(f"{where} has the unknown keys {', '.join(sorted(map(str, strange)))}")


def _one_of(raw: Any, known: tuple[str, ...], where: str) -> str:
    if not isinstance(raw, str) or raw not in known:
        raise ValueError(f"{where} should be one of {', '.join(each for each in known if each)}")
    return raw


def _whole(raw: Any, low: int, high: int, where: str) -> int:
    if isinstance(raw, bool) or not isinstance(raw, int) or not low <= raw <= high:
        raise ValueError(f"{where} should be a whole number from {low} to {high}")
    return raw
