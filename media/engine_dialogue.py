"""A branch as rtpengine has it: a dialogue between its peer and the studio, in NG's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from config.errors import TheirError
from media.ng import Ng, NgRefused
from media.server import Profile
from media.shortcut import Agreed

# Where phones say they are is believed: of several who send at first, the one who is nearest to it is listened to, and
# nobody else later. Our ports stay in a re-offer. Header extensions mean nothing to the other side.
FLAGS = ("trust-address", "endpoint-learning-heuristic", "strict-source", "port-latching", "strip-extmap")
Interfaces = tuple[str, str]
"""Names of rtpengine's: towards peers, and towards the studio."""
# How a peer is offered to, or the studio, which speaks plain RTP. The role in DTLS is left to rtpengine: told to be
# passive it never finishes with Chromium.
OFFERED: dict[Profile, dict[str, Any]] = {
    Profile.RTP: {"transport_protocol": "RTP/AVP", "ICE": "remove", "rtcp_mux": ("demux",)},
    # baresip answers AES-GCM and then encrypts with AES-CM.
    Profile.SDES: {
        "transport_protocol": "RTP/SAVP",
        "ICE": "remove",
        "rtcp_mux": ("demux",),
        "DTLS": "off",
        "SDES": ("no-AEAD_AES_256_GCM", "no-AEAD_AES_128_GCM"),
    },
    Profile.DTLS: {
        "transport_protocol": "UDP/TLS/RTP/SAVP",
        "ICE": "remove",
        "rtcp_mux": ("demux",),
        "SDES": ("off",),
    },
    Profile.WEBRTC: {
        "transport_protocol": "UDP/TLS/RTP/SAVP",
        "ICE": "force",
        "rtcp_mux": ("offer", "require"),
        "flags": (*FLAGS, "generate-mid"),
        "SDES": ("off",),
    },
}


def _answered(profile: Profile) -> dict[str, Any]:
    """How a peer is answered: its offer has said the rest."""
    return {"ICE": "force" if profile is Profile.WEBRTC else "remove", "rtcp_mux": ("accept",)}


class Dialogue:
    """`call` and `tag` are names in rtpengine, each given once; all methods raise OurError(503) when it does not
    answer."""

    def __init__(self, ng: Ng, call: str, tag: str, interfaces: Interfaces | None = None) -> None:
        self._ng = ng
        self._call = call
        self.peer = tag
        self.studio = f"{tag}~"
        self._interfaces = interfaces

    async def peer_offers(self, offer: bytes) -> bytes:
        """What the studio is offered. Raises TheirError(488) where rtpengine cannot make anything of it."""
        return await self._offer(self.peer, self.studio, offer, OFFERED[Profile.RTP])

    async def answer_peer(self, answer: bytes, profile: Profile) -> bytes:
        """What the peer is answered."""
        return await self._answer(self.peer, self.studio, answer, _answered(profile))

    async def offer_peer(self, offer: bytes, profile: Profile) -> bytes:
        """What the peer is offered."""
        return await self._offer(self.studio, self.peer, offer, OFFERED[profile])

    async def peer_answers(self, answer: bytes) -> bytes:
        """What the studio is answered."""
        return await self._answer(self.studio, self.peer, answer, _answered(Profile.RTP))

    async def restore(self, agreed: Agreed) -> None:
        """As it was agreed, whatever has been said since: packets of the peer come to the studio."""
        theirs, ours = agreed.theirs.to_bytes(), agreed.ours.to_bytes()
        if agreed.peer_offered:
            await self.peer_offers(theirs)
            await self.answer_peer(ours, agreed.profile)
        else:
            await self.offer_peer(ours, agreed.profile)
            await self.peer_answers(theirs)

    async def connect(
        self, theirs: bytes, profile: Profile, other: Dialogue, others: bytes, others_profile: Profile
    ) -> None:
        """This peer and the other's, without the studio: as if they had offered and answered each other so."""
        await self._offer(self.peer, other.peer, theirs, OFFERED[others_profile])
        await self._answer(self.peer, other.peer, others, _answered(profile))

    async def end(self) -> dict[str, Any]:
        """The ports of both sides are free: rtpengine takes whoever has no other dialogue along. What it then answers
        is what it would to `query`, for the last time."""
        return await self._ng.ask("delete", call_id=self._call, from_tag=self.peer, delete_delay=0)

    async def _offer(self, offerer: str, answerer: str, offer: bytes, wishes: dict[str, Any]) -> bytes:
        # Named from the first offer on: to delete one who was never named deletes all of them.
        if self._interfaces is not None:
            peers, studios = self._interfaces
            wishes = {
                "direction": [studios if tag == self.studio else peers for tag in (offerer, answerer)],
                **wishes,
            }
        return await self._say("offer", offer, {"from_tag": offerer, "to_tag": answerer, **wishes})

    async def _answer(self, offerer: str, answerer: str, answer: bytes, wishes: dict[str, Any]) -> bytes:
        return await self._say("answer", answer, {"from_tag": offerer, "to_tag": answerer, **wishes})

    async def _say(self, command: str, description: bytes, wishes: dict[str, Any]) -> bytes:
        wishes = {"flags": FLAGS, "replace": ("origin",), **wishes}
        try:
            reply = await self._ng.ask(command, call_id=self._call, sdp=description, **wishes)
        except NgRefused as refused:
            if refused.status == 503:
                raise
            raise TheirError(f"The description cannot be used: {refused.why}", 488) from None
        said = reply.get("sdp", b"")
        return said if isinstance(said, bytes) else b""


def kinds_in(reply: Mapping[str, Any], tag: str) -> dict[str, dict[str, Any]]:
    """By kind of media, what was received from a tag: {packets_in, bytes_in, last_packet_at}, of a reply to `query`."""
    kinds: dict[str, dict[str, Any]] = {}
    for media in medias(reply, tag):
        for stream in media.get("streams", ()):
            if b"RTP" in stream.get("flags", ()):
                counted = stream.get("stats", {})
                packets = counted.get("packets", 0)
                kinds[media.get("type", b"").decode()] = {
                    "packets_in": packets,
                    "bytes_in": counted.get("bytes", 0),
                    "last_packet_at": stream.get("last packet") if packets else None,
                }
    return kinds


def packets_from(reply: Mapping[str, Any], tag: str) -> int:
    """How many packets of any kind came from a tag by now, RTP or RTCP."""
    streams = [stream for media in medias(reply, tag) for stream in media.get("streams", ())]
    return sum(int(each.get("stats", {}).get("packets", 0)) for each in streams)


def medias(reply: Mapping[str, Any], tag: str) -> list[dict[str, Any]]:
    """What rtpengine knows of the media of a tag."""
    found: list[dict[str, Any]] = reply.get("tags", {}).get(tag, {}).get("medias", [])
    return found
