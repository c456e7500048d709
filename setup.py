"""Packaging. ``make`` installs the checkout in place: ``pip install --no-deps -e .``.

``WARMLINE_COMPILE=1 python setup.py build_ext --inplace`` has mypyc make C of the SIP protocol, and of what every
message passes through above it, beside their sources. These are then no longer read, so what was made has to go, or be
made anew, when one of them changes.
"""

import os
from pathlib import Path

from setuptools import Extension, find_packages, setup

PACKAGES = ["config", "sip_trunk", "media", "agent_presence", "kb_portal", "pbx"]

# What stands above the protocol. Compiled classes can neither be derived from nor stood in for: those stay as they are.
DRIVERS = """
    sip_trunk/answer.py sip_trunk/answered.py sip_trunk/authentication.py sip_trunk/deadlines.py sip_trunk/exchange.py
    sip_trunk/guard.py sip_trunk/identity.py sip_trunk/locate.py sip_trunk/matching.py sip_trunk/own_network.py
    sip_trunk/refer.py sip_trunk/reliable_provisional.py sip_trunk/reoffer.py sip_trunk/session_timer.py
    sip_trunk/trace.py sip_trunk/transaction.py sip_trunk/transactions.py sip_trunk/udp.py sip_trunk/way_back.py
    agent_presence/location.py agent_presence/registrar.py
""".split()  # noqa: SIM905

requirements = [
    line
    for line in (Path(__file__).parent / "requirements" / "server.in").read_text("utf-8").splitlines()
    if line and not line.startswith(("#", "-"))
]


def compiled() -> list[Extension]:
    if os.environ.get("WARMLINE_COMPILE") != "1":
        return []
    from mypyc.build import mypycify

    here = Path(__file__).parent
    # mypyc 2.4 cannot take a slice of bytes that begins after the end: multipart.py does, and stays as it is.
    files = set((here / "sip_trunk" / "sip").glob("*.py")) - {here / "sip_trunk" / "sip" / "multipart.py"}
    sources = sorted([*(str(path.relative_to(here)) for path in files), *DRIVERS])
    # The rest of the house stays as it is, and is not looked at.
    options = ["--follow-imports=silent", "--ignore-missing-imports"]
    extensions: list[Extension] = mypycify([*options, *sources], opt_level="3", group_name="warmline_sip")
    return extensions


setup(
    name="warmline",
    version="0.1.0",
    description="A contact-centre server: from reading a help page to the right agent's own phone",
    python_requires=">=3.11",
    packages=find_packages(include=[pattern for name in PACKAGES for pattern in (name, f"{name}.*")]),
    package_data={
        "config": ["migrations/*.mako", "migrations/versions/*.py"],
        "kb_portal": ["templates/**/*", "static/**/*", "sample_articles/*"],
        "media": ["prompts/*"],
        "pbx": ["pages/templates/**/*", "pages/static/**/*"],
    },
    install_requires=requirements,
    ext_modules=compiled(),
    entry_points={"console_scripts": ["warmline = pbx.cli:main"]},
)
