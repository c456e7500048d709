"""The piece of HTML behind the Help button: which channels can be had now, and what can be done instead."""

from __future__ import annotations

from collections.abc import Mapping

from pbx.api.edge import Answer

NAMES = {"chat": "Chat", "voice": "Voice", "video": "Video"}
EXPLAINED = {
    "chat": "Write back and forth, here on this page.",
    "voice": "Talk through this device. Your browser asks for the microphone.",
    "video": "Talk and show us. Your browser asks for camera and microphone.",
}


def render(outlook: Mapping[str, str]) -> Answer:
    """Buttons for what can be had now or after a wait; for the rest, the reason and a way round it.

    `outlook` says of each channel "now", "wait" (all who could help are busy) or "none".
    """
    offered = [channel for channel in NAMES if outlook.get(channel) in ("now", "wait")]
    if not offered:
        return _html(_nobody())
    parts = []
    for channel in NAMES:
        if channel in offered:
            parts.append(_button(channel, free=outlook[channel] == "now"))
        else:
            parts.append(_missing(channel, offered))
    return _html("\n".join(parts))


def log_in_first() -> Answer:
    return _html(
        '<p class="help-none">Please <a href="/login">log in</a> first, so that we know which product it is about.</p>',
        401,
    )


def closing() -> Answer:
    return _html(
        '<p class="help-none" data-available="no"><strong>The help desk is closing for a moment.</strong> '
        "Please try again in a minute; the articles stay here.</p>"
    )


def _button(channel: str, *, free: bool) -> str:
    now = "Somebody is free now." if free else "Everybody is busy just now: you would wait your turn."
    return (
        f'<button type="button" data-channel="{channel}" data-wait="{"no" if free else "yes"}">'
        f"<span>{NAMES[channel]}<small>{EXPLAINED[channel]} {now}</small></span></button>"
    )


def _missing(channel: str, offered: list[str]) -> str:
    instead = " or ".join(NAMES[other].lower() for other in offered)
    why = (
        "Nobody at work who can help with this has a phone with video right now."
        if channel == "video"
        else "Nobody who can help with this can be reached this way right now."
    )
    name = NAMES[channel].lower()
    return f'<p data-missing="{channel}"><strong>No {name} just now.</strong> {why} Try {instead}.</p>'


def _nobody() -> str:
    return (
        '<p class="help-none" data-available="no"><strong>Nobody who can help with this is at work right now.</strong> '
        "The articles here may still get you there. Please look again a little later; "
        "this list keeps itself up to date.</p>"
    )


def _html(text: str, status: int = 200) -> Answer:
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    }
    return Answer(text.encode("utf-8"), status, "text/html; charset=utf-8", headers)
