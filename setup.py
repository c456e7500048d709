"""Packaging. ``make`` installs the checkout in place: ``pip install --no-deps -e .``."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGES = ["config", "sip_trunk", "media", "agent_presence", "kb_portal", "pbx"]

requirements = [
    line
    for line in (Path(__file__).parent / "requirements" / "server.in").read_text("utf-8").splitlines()
    if line and not line.startswith(("#", "-"))
]

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
    entry_points={"console_scripts": ["warmline = pbx.cli:main"]},
)
