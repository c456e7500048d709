"""MediaServer: the one interface to whatever carries the packets of calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any, Protocol

AUDIO_ONLY = frozenset({"audio"})
ALL_KINDS = frozenset({"audio", "video"})
FILE = "file:"
"""Before the path of a recording that is to be played."""
MOST_IN_CONFERENCE = 5


class Profile(Enum):
    """How a peer's packets travel."""

    RTP = "rtp"  # plain RTP/AVP, a port pair for each medium
    WEBRTC = "webrtc"  # ICE, DTLS-SRTP, everything on one port


class MediaServer(Protocol):
    """Every leg of a call is a branch; all methods are the same for customer, agent and phone network.

    Methods raise WarmlineError: TheirError(400) for a malformed description, TheirError(488) where nothing is
    shared, OurError(503) where ports have run out or the media process is gone. Unknown calls and branches are an
    OurError(500), but for `part`, `drop` and `delete`, which may come late and then do nothing.
    """

    on_gone: Callable[[str, str, str], None]
    """(call, branch, why): nothing more will come of this branch: consent lost, DTLS failed or closed, silence."""

    on_keys: Callable[[str, str, str], None]
    """(call, branch, key): a key (0-9, *, #, A-D) was pressed there (RFC 4733), told once, as soon as it is heard.

    At most 20 a second of each branch are told. Keys that come another way (SIP INFO) are not known here.
    """

    on_recorded: Callable[[str, str, str, float], None]
    """(call, branch, why, seconds): a recording ended by itself, and its file is complete.

    why: "limit", "silence", "key" (# was pressed, which `on_keys` is then not told), "gone" (the branch was lost,
    dropped or deleted), "failed" (the file could not be written; what had been written before stays).
    """

    def answer(
        self,
        call: str,
        branch: str,
        offer: bytes,
        *,
        kinds: frozenset[str] = ALL_KINDS,
        like: str | None = None,
    ) -> Awaitable[bytes]:
        """The answer to a peer's offer: on a new branch, or a re-offer. Media not in `kinds` are refused.

        With `like` only what that branch has agreed on is taken: the two can then be joined as they are.
        """

    def offer(
        self,
        call: str,
        branch: str,
        *,
        profile: Profile,
        like: str | None = None,
        kinds: frozenset[str] | None = None,
        telephone: bool = False,
    ) -> Awaitable[bytes]:
        """Our offer to a peer, in the codecs and media of branch `like` (only `kinds` of them, if given).

        Without `like` our own audio codecs are offered; with `telephone` only those that every telephone network
        carries (G.711), for a peer who is to be joined with somebody there. On a branch that is there it is a re-offer
        of what is agreed, narrowed to what `like` has; `profile` then changes nothing.
        """

    def accept(self, call: str, branch: str, answer: bytes) -> Awaitable[None]:
        """The peer's answer to our latest offer."""

    def answer_joined(
        self, call: str, branch: str, offer: bytes, *, peer: str, answer: bytes
    ) -> Awaitable[bytes]:
        """In one step what a callee's answer asks for: `peer` has sent `answer` to our latest offer, `branch` gets its
        answer to `offer` like that, and the two are joined."""

    def compatible(self, call: str, a: str, b: str) -> Awaitable[bool]:
        """False: `a` must be re-offered like `b` before the two can hear each other."""

    def play(
        self, call: str, branch: str, prompt: str | Sequence[str], *, repeat: bool = False
    ) -> Awaitable[float]:
        """Play a prompt, or several one after the other, in place of anything that is heard now; the length of one
        round of them all in seconds.

        A prompt is a name of `media.prompts`, or "file:" and the path of a WAV file that `record` has written, of
        which at most 5 minutes are played: TheirError(404) where there is none, OurError(500) where it cannot be read.
        `join` is undone; a branch in a conference stays in it, and hears the others again after the prompt. It starts
        when the peer can be reached (ICE and DTLS done).
        """

    def stop(self, call: str, branch: str) -> Awaitable[None]:
        """Play no more."""

    def keys(self, call: str, branch: str, keys: str) -> Awaitable[bool]:
        """Let the peer know of keys pressed (0-9, *, #, A-D), as telephone events (RFC 4733), 160 ms each.

        False: it has agreed on none, and must be told another way.
        """

    def join(self, call: str, a: str, b: str) -> Awaitable[None]:
        """Media both ways from now on; ends what is played to either, and asks both for a key frame."""

    def confer(self, call: str, branches: Sequence[str]) -> Awaitable[None]:
        """From now on these 2 to 5 branches each hear all the others (whatever their codecs), and nobody else; what
        any of them was joined with or was played is over.

        Called again it changes who takes part; fewer than two end it, and nobody hears anything. Video passes between
        the first two that have it. A branch that is dropped, or joined with another, leaves, and the others go on; one
        that is left alone hears silence. OurError(503) when mixing takes too much of the process already.
        """

    def part(self, call: str, a: str, b: str) -> Awaitable[None]:
        """Undo `join`."""

    def record(
        self, call: str, branch: str, path: str, *, limit_s: float, silence_s: float
    ) -> Awaitable[None]:
        """Write what this branch says from now on to a new WAV file (16 bits, mono, 8 or 16 kHz).

        It ends by `stop_recording`, or by itself: after `limit_s` seconds, after `silence_s` seconds without a voice,
        by the key #, or with the branch; then `on_recorded` is told. The folder is made if need be. Should this process
        die, the file can be read up to the last second. OurError(500) while the branch is being recorded already.
        """

    def stop_recording(self, call: str, branch: str) -> Awaitable[float]:
        """End the recording, of which `on_recorded` is then not told; its seconds, 0.0 if none was running.

        The file is complete and on the disk when this resolves.
        """

    def drop(self, call: str, branch: str) -> Awaitable[None]:
        """End a branch and free what it holds."""

    def delete(self, call: str) -> Awaitable[None]:
        """End all branches of a call."""

    def stats(self, call: str) -> Awaitable[dict[str, Any]]:
        """{branch: {"ready", "kinds": {kind: {packets_in, packets_out, bytes_in, bytes_out, last_packet_at}}}}.

        `last_packet_at` is in epoch seconds, None before the first.
        """
