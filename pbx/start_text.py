"""What `warmline serve` says once it is up: where to go, who to be, what to dial."""

from __future__ import annotations

from collections.abc import Sequence

from agent_presence.sample import AGENTS, ROBOT_NAME
from config.errors import WarmlineError
from config.settings import Settings
from kb_portal.provider import ProviderNumber
from kb_portal.sample import CUSTOMERS
from pbx.feature_codes import CODES


def start_text(s: Settings, numbers: Sequence[ProviderNumber], took_s: float) -> str:
    """The text; what is of the sample is told only where the sample is in use."""
    lines = [
        f"Warmline is up, {took_s:.1f} s after the start. Ctrl-C stops it; calls in progress are ended then.",
        "",
    ]
    lines += _addresses(s)
    if s.sample_data:
        lines += ["", "Customers to be (at the portal):"]
        lines += [
            f"  {sample.customer.email:20} {sample.password:14} {sample.customer.name}"
            for sample in CUSTOMERS
        ]
        lines += [
            "",
            f"Agents to be, at {_first_address(s)}agent:",
            "  login    password       phones (user/password)",
        ]
        for agent in AGENTS:
            phones = ", ".join(f"{device.username}/{device.password}" for device in agent.devices)
            lines.append(f"  {agent.login:8} {agent.password:14} {phones}")
            lines.append(f"  {'':23} knows {', '.join(agent.skills)}")
        if s.robot_agent:
            lines.append(f"  {ROBOT_NAME} answers by itself when no other agent is free")
    lines += [
        "",
        "A softphone (Linphone, baresip, Zoiper …):",
        f"  domain {s.domain}, server {s.url_host}:{s.sip_port}, transport UDP or TCP"
        + (f" (TLS: {s.url_host}:{s.sips_port})" if s.sips_port else ""),
        "  dial "
        + ", ".join(f"{code} to be {'ready' if what.ready else 'not ready'}" for code, what in CODES.items()),
    ]
    if numbers and s.trunks:
        peers = ", ".join(f"{trunk.name} ({' '.join(trunk.peers) or trunk.via})" for trunk in s.trunks)
        lines += ["", f"Phone calls: the trunk {peers} may call these numbers here:"]
        for number in numbers:
            about = [number.provider_id, number.product_id]
            lines.append(f"  {number.number}  {' / '.join(filter(None, about))}")
    lines += ["", "What happens, as it happens: .venv/bin/warmline events --follow"]
    return "\n".join(lines)


def _first_address(s: Settings) -> str:
    if not s.http_port:
        return f"https://{s.url_host}:{s.https_port}/"
    return f"http://{s.here if s.anywhere else s.url_host}:{s.http_port}/"


def _addresses(s: Settings) -> list[str]:
    lines = ["The portal:"]
    if s.http_port:
        lines.append(f"  {_first_address(s)}   to try it on this machine")
    if s.https_port:
        lines.append(f"  https://{s.url_host}:{s.https_port}/   where a phone may use its camera")
        if not s.certificate:
            lines.append(
                f"    its certificate is of our own authority: open https://{s.url_host}:{s.https_port}/trust on the"
                " phone, go on past the one warning, and install it"
            )
    if s.host == "127.0.0.1":
        lines.append(
            "  Only this machine can reach it. To open it to your network: WARMLINE_HOST=0.0.0.0 make run"
        )
    if s.anywhere and s.sample_data:
        lines.append(
            "  Open to the network with the sample's known passwords; for real use set"
            " WARMLINE_SAMPLE_DATA=off and WARMLINE_ROBOT_AGENT=off."
        )
    return lines


def is_ours(error: Exception) -> bool:
    """Whether an error that stopped the server is a fault of its own, not of settings, files, ports or the database."""
    from sqlalchemy.exc import SQLAlchemyError
    from twisted.internet.error import CannotListenError

    return not isinstance(error, WarmlineError | OSError | SQLAlchemyError | CannotListenError)


def why_not(error: Exception) -> str:
    """Why the server could not start, in a line that says what to do where we know it."""
    from twisted.internet.error import CannotListenError

    if isinstance(error, CannotListenError):
        return (
            f"port {error.port} cannot be listened on ({error.socketError.strerror}): is another server running? "
            "Each copy needs ports of its own: WARMLINE_HTTP_PORT, WARMLINE_HTTPS_PORT, WARMLINE_SIP_PORT, "
            "WARMLINE_SIPS_PORT, WARMLINE_RTP_PORTS"
        )
    if isinstance(error, WarmlineError):
        return error.reason
    return f"{type(error).__name__}: {error}"
