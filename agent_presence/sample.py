"""Sample agents and their phones, for trying Warmline out: see `AGENTS` for the names and passwords to print.

The skills fit the sample products: `thermea` sells boilers and a thermostat, `lumio` cameras and a hub.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_presence.roster import Device, Roster
    from config.login import Logins

SKILLS = ("heating", "boiler-hydraulics", "wifi-pairing", "video-diagnosis", "smart-home", "billing")


@dataclass(frozen=True, slots=True)
class SampleDevice:
    """A sample phone; its `username` and `password` go into a softphone. `video=False` marks an audio-only one."""

    name: str
    username: str
    password: str
    video: bool | None = None


@dataclass(frozen=True, slots=True)
class SampleAgent:
    """A sample agent; `login` and `password` open the agent's page."""

    id: str
    name: str
    login: str
    password: str
    skills: Mapping[str, int]
    languages: tuple[str, ...]
    devices: tuple[SampleDevice, ...] = field(default=())
    supervisor: bool = False


AGENTS: tuple[SampleAgent, ...] = (
    SampleAgent(
        "agent-ana",
        "Ana Ferreira",
        "ana",
        "ana-agent",
        {"heating": 5, "boiler-hydraulics": 4},
        ("en", "pt"),
        (SampleDevice("Softphone", "ana", "ana-phone"),),
    ),
    SampleAgent(
        "agent-bo",
        "Bo Lindqvist",
        "bo",
        "bo-agent",
        {"wifi-pairing": 4, "smart-home": 3},
        ("en", "sv"),
        (SampleDevice("Desk phone", "bo", "bo-phone", video=False),),
    ),
    SampleAgent(
        "agent-carla",
        "Carla Rossi",
        "carla",
        "carla-agent",
        {"wifi-pairing": 5, "smart-home": 5, "video-diagnosis": 4},
        ("en", "it"),
        (
            SampleDevice("Softphone", "carla", "carla-phone"),
            SampleDevice("Mobile", "carla-mobile", "carla-mobile-phone"),
        ),
        supervisor=True,
    ),
    SampleAgent(
        "agent-deniz",
        "Deniz Aydin",
        "deniz",
        "deniz-agent",
        {"heating": 3, "wifi-pairing": 3, "billing": 5},
        ("en", "tr", "de"),
        (SampleDevice("Softphone", "deniz", "deniz-phone"),),
    ),
)

ROBOT_ID = "agent-robin"
ROBOT_NAME = "Robin (test agent)"
ROBOT_USERNAME = "robin"
ROBOT_PASSWORD_FILE = "robot-agent.password"  # noqa: S105


async def seed(roster: Roster, logins: Logins, *, data: Path) -> None:
    """Add what is missing of the sample; what is there stays as it is, changed or not. Who has left stays away, and so
    does a phone that was taken back, whose password everybody knows.

    The robot agent's SIP password is made by chance and kept in `data / ROBOT_PASSWORD_FILE`, readable by its owner
    alone, because the roster keeps only what it is checked against.
    """
    for sample in AGENTS:
        if roster.ever(sample.id) is not None or roster.login_taken(sample.login):
            continue
        await roster.add_agent(
            sample.name,
            sample.login,
            await logins.hash_password(sample.password),
            skills=sample.skills,
            languages=sample.languages,
            supervisor=sample.supervisor,
            agent_id=sample.id,
        )
        for phone in sample.devices:
            if roster.device_by_username(phone.username) is None:
                await roster.add_device(
                    sample.id,
                    phone.name,
                    phone.username,
                    phone.password,
                    override={} if phone.video is None else {"video": phone.video},
                    device_id=f"device-{phone.username}",
                )
    password_file = data / ROBOT_PASSWORD_FILE
    has_password = await asyncio.to_thread(password_file.exists)
    device = roster.device_by_username(ROBOT_USERNAME)
    taken = roster.ever(ROBOT_ID) is None and roster.login_taken(ROBOT_USERNAME)
    others = device is not None and device.agent_id != ROBOT_ID
    if not taken and not others and (device is None or not has_password):
        await _seed_robot(roster, logins, device, password_file)


def robot_password(data: Path) -> str:
    """The robot agent's SIP password. Raises FileNotFoundError before `seed` has run."""
    return (data / ROBOT_PASSWORD_FILE).read_text("ascii").strip()


async def _seed_robot(roster: Roster, logins: Logins, device: Device | None, password_file: Path) -> None:
    if roster.ever(ROBOT_ID) is None:
        # Nobody logs in as the robot: the password is thrown away.
        await roster.add_agent(
            ROBOT_NAME,
            ROBOT_USERNAME,
            await logins.hash_password(secrets.token_urlsafe(24)),
            skills=dict.fromkeys(SKILLS, 1),
            languages=("en",),
            standby=True,
            agent_id=ROBOT_ID,
        )
    password = secrets.token_urlsafe(24)
    # The file first: a device whose password nobody knows could never register.
    await asyncio.to_thread(_write_private, password_file, password)
    if roster.agent(ROBOT_ID) is None:  # it has left
        return
    if device is None:
        await roster.add_device(
            ROBOT_ID, "Robot", ROBOT_USERNAME, password, device_id=f"device-{ROBOT_USERNAME}"
        )
    else:
        await roster.set_password(device.id, password)


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
