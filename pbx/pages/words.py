"""How times, lengths and names of things are put into words on the pages."""

from __future__ import annotations

from datetime import UTC, datetime

CHANNEL_WORDS = {"chat": "Chat", "voice": "Voice", "video": "Video"}

DISPOSITION_WORDS = {
    "customer_hung_up": "the customer ended it",
    "agent_hung_up": "the agent ended it",
    "customer_gave_up": "the customer left before anyone answered",
    "customer_lost": "the customer’s connection was lost",
    "agent_lost": "the agent’s phone was lost",
    "other_hung_up": "whoever it was passed on to ended it",
    "other_lost": "whoever it was passed on to was lost",
    "no_agent": "nobody could answer",
    "voicemail": "the customer left a message",
    "call_back_failed": "the customer could not be reached when called back",
    "idle": "nobody wrote any more",
    "media_failed": "sound or picture failed",
    "server_stopped": "the help desk closed",
    "server_died": "the help desk failed",
}


def length(seconds: float) -> str:
    """`74 s`, `12 min`, `3 h 5 min`, `2 days`; what agent.js writes as time goes by."""
    whole = max(0, int(seconds))
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 86400:
        minutes = whole % 3600 // 60
        return f"{whole // 3600} h {minutes} min" if minutes else f"{whole // 3600} h"
    return "1 day" if whole < 2 * 86400 else f"{whole // 86400} days"


def reading_time(seconds: float) -> str:
    """A time spent on a page, to the second where that still tells something: `74 s`, `3 min 20 s`."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def clock_time(at: float) -> str:
    """Hours and minutes; in the server's own zone, until agent.js puts it into the reader's."""
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%H:%M")


def date(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC).astimezone()
    return f"{moment.day} {moment:%b %Y}"


def skill(name: str) -> str:
    """A skill's name as words: `wifi-pairing` is `wifi pairing`."""
    return name.replace("-", " ").replace("_", " ")
