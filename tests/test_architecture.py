"""Who may import whom. The table is the design's; the imports are read, not run."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST_MODULE = 600  # lines

PACKAGES = ("config", "sip_trunk", "media", "agent_presence", "kb_portal", "pbx")
MAY_IMPORT = {
    "pbx": {"kb_portal", "agent_presence", "media", "sip_trunk", "config"},
    "agent_presence": {"sip_trunk", "config"},
    "kb_portal": {"config"},
    "media": {"config"},
    "sip_trunk": {"config"},
    "config": set[str](),
}
BRIDGE = "config/bridge.py"
MAKES_THE_SERVICE = {"pbx/cli.py"}
OWNS_A_REACTOR = {"pbx/service.py", "pbx/cli.py", "pbx/robot.py", "media/__main__.py"}
CROSSINGS = {"fromFuture", "asFuture", "ensureDeferred", "fromCoroutine", "deferredToFuture"}


@dataclass(frozen=True)
class Import:
    """One import statement: the module named in full, and whether it runs when its module is loaded."""

    module: str
    line: int
    at_load: bool


def modules() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")


def imports_of(place: str, tree: ast.Module) -> Iterator[Import]:
    """Every import in a module, relative ones made absolute, those inside functions too."""
    package = place.removesuffix(".py").split("/")[:-1]
    in_functions = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        at_load = id(node) not in in_functions
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_load)
        elif isinstance(node, ast.ImportFrom):
            base = [] if node.level == 0 else package[: len(package) - node.level + 1]
            origin = ".".join(base + ([node.module] if node.module else []))
            for alias in node.names:
                # `from pbx import service` names a module, `from pbx.leg import Leg` a class in one: both are seen.
                yield Import(f"{origin}.{alias.name}", node.lineno, at_load)


def wrongs(place: str, source: str) -> list[str]:
    """Every breach of the design's rules in one module."""
    tree = ast.parse(source, place)
    found = []
    for each in imports_of(place, tree):
        fault = _wrong_import(place, each)
        if fault:
            found.append(f"{place}:{each.line}: {fault}")
    if place != BRIDGE:
        found += [
            f"{place}:{node.lineno}: .{node.attr}: asyncio and Deferreds meet only in {BRIDGE}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr in CROSSINGS
        ]
    lines = source.count("\n")
    if lines >= LONGEST_MODULE:
        found.append(f"{place}: {lines} lines; a module has fewer than {LONGEST_MODULE}")
    return found


def _wrong_import(place: str, each: Import) -> str | None:
    package = place.split("/")[0]
    top = each.module.split(".")[0]
    if place.startswith("sip_trunk/sip/"):
        if top == "sip_trunk":
            if not f"{each.module}.".startswith("sip_trunk.sip."):
                return f"sip_trunk/sip is pure and may not import {each.module}"
        elif top not in sys.stdlib_module_names:
            return f"sip_trunk/sip imports the standard library alone, not {each.module}"
    if top in PACKAGES and top != package and top not in MAY_IMPORT[package]:
        return f"{package} may not import {top}"
    if top in {"tests", "bench", "tools", "setup"}:
        return f"nothing imports {top}"
    if f"{each.module}.".startswith("pbx.service.") and place not in MAKES_THE_SERVICE:
        return "only pbx/cli.py imports the service"
    if each.module == "twisted.internet.reactor" and each.at_load and place not in OWNS_A_REACTOR:
        return "a reactor is an argument"
    if place != BRIDGE and each.module.rsplit(".", 1)[-1] in CROSSINGS and top == "twisted":
        return f"asyncio and Deferreds meet only in {BRIDGE}"
    return None


def test_every_import_runs_the_way_the_design_says() -> None:
    found = [wrong for place, source in modules() for wrong in wrongs(place, source)]
    assert not found, "\n" + "\n".join(found)


def test_the_packages_are_there_to_be_checked() -> None:
    places = {place for place, _ in modules()}
    assert {"config/database.py", BRIDGE} <= places
    assert {place.split("/")[0] for place in places} <= set(PACKAGES)


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("media/relay.py", "from sip_trunk.transport import Flow"),
        ("sip_trunk/trunk.py", "import media.sdp"),
        ("media/relay.py", "def late():\n    import sip_trunk"),
        ("kb_portal/pages.py", "from agent_presence import roster"),
        ("kb_portal/pages.py", "import pbx.api"),
        ("agent_presence/push.py", "from kb_portal.store import product"),
        ("agent_presence/push.py", "from media import sdp"),
        ("config/login.py", "from kb_portal import customer"),
        ("sip_trunk/sip/parser.py", "from config.errors import TheirError"),
        ("sip_trunk/sip/parser.py", "from twisted.logger import Logger"),
        ("sip_trunk/sip/parser.py", "from ..transport import Flow"),
        ("sip_trunk/sip/parser.py", "from sip_trunk import transport"),
        ("pbx/dispatch.py", "from pbx.service import Service"),
        ("pbx/dispatch.py", "from pbx import service"),
        ("pbx/api/help.py", "from .. import service"),
        ("pbx/dispatch.py", "from twisted.internet import reactor"),
        ("config/database.py", "import twisted.internet.reactor"),
        ("pbx/leg.py", "from twisted.internet.defer import ensureDeferred"),
        ("pbx/leg.py", "d = Deferred.fromFuture(f)"),
        ("pbx/leg.py", "f = d.asFuture(loop)"),
        ("config/ids.py", "from tests.conftest import run"),
        ("config/ids.py", "pass\n" * LONGEST_MODULE),
    ],
)
def test_a_wrong_module_is_found_out(place: str, source: str) -> None:
    assert wrongs(place, source)


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("pbx/bridge.py", "from media.server import MediaServer\nfrom sip_trunk.user_agent import Call"),
        ("pbx/cli.py", "from pbx.service import Service\nfrom twisted.internet import reactor"),
        ("pbx/bridge.py", "from .leg import Leg"),
        (
            "agent_presence/registrar.py",
            "from sip_trunk.sip.uri import SipUri\nfrom config.ids import new_id",
        ),
        ("sip_trunk/sip/dialog.py", "import re\nfrom .uri import SipUri\nfrom sip_trunk.sip import timers"),
        ("sip_trunk/transport.py", "from twisted.internet.interfaces import IReactorTime"),
        ("pbx/leg.py", "def start():\n    from twisted.internet import reactor"),
        (BRIDGE, "d = Deferred.fromFuture(f)"),
        ("config/ids.py", "pass\n" * (LONGEST_MODULE - 1)),
    ],
)
def test_a_right_module_is_left_alone(place: str, source: str) -> None:
    assert not wrongs(place, source)
