"""The messages of RFC 4475 and RFC 5118, octet for octet, under the names the RFCs give them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_HERE = Path(__file__).parent / "torture"

RFC4475 = {path.stem: path.read_bytes() for path in sorted((_HERE / "rfc4475").glob("*.dat"))}
RFC5118 = {path.stem: path.read_bytes() for path in sorted((_HERE / "rfc5118").glob("*.dat"))}
FOUND = {path.stem: path.read_bytes() for path in sorted((_HERE / "found").glob("*.dat"))}
"""Messages that once did what none may, found by the fuzz target or by a phone."""

_IN_ORDER = {
    "s3.1.1": """wsinv intmeth esc01 escnull esc02 lwsdisp longreq dblreq semiuri transports mpart01 unreason
        noreason""",
    "s3.1.2": """badinv01 clerr ncl scalar02 scalarlg quotbal ltgtruri lwsruri lwsstart trws escruri baddate
        regbadct badaspec baddn badvers mismatch01 mismatch02 bigcode""",
    "s3.2": "badbranch",
    "s3.3": """insuf unkscm novelsc unksm2 bext01 invut regaut01 multi01 mcl01 bcast zeromf cparam01 cparam02
        regescrt sdp01""",
    "s3.4": "inv2543",
}
SECTIONS = {
    name: f"{section}.{number}"
    for section, names in _IN_ORDER.items()
    for number, name in enumerate(names.split(), 1)
}
"""The section of RFC 4475 each message stands in."""


def titles(names: Iterable[str]) -> list[str]:
    """Test ids that say the section."""
    return [f"{SECTIONS[name]} {name}" for name in names]
