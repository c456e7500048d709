"""MediaServer: the one interface to whatever carries the packets of calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol

AUDIO_ONLY = frozenset({"audio"})
ALL_KINDS = frozenset({"audio", "video"})
FILE = "file:"
"""Before the path of a recording that is to be played."""
MOST_IN_CONFERENCE = 5
SILENCE_S = 60.0
"""A phone that sends neither RTP nor RTCP so long is silent, and gone if it hears nothing either."""


class Profile(Enum):
    """How a peer's packets travel."""

    RTP = "rtp"  # plain RTP/AVP, a port pair for each medium
    SDES = "sdes"  # SRTP, its keys in the description (RFC 4568); ports as before
    DTLS = "dtls"  # SRTP, its keys by a DTLS handshake on each port (RFC 5763)
    WEBRTC = "webrtc"  # ICE, DTLS-SRTP, everything on one port


class MediaServer(Protocol):
    """Every leg of a call is a branch; all methods are the same for customer, agent and phone network.

    Methods raise WarmlineError: TheirError(400) for a malformed description, TheirError(488) where nothing is
    shared, OurError(503) where ports have run out or the media process is gone. Unknown calls and branches are an
    OurError(500), but for `part`, `drop` and `delete`, which may come late and then do nothing.
    """

    on_gone: Callable[[str, str, str], None]
    """(call, branch, why): nothing more will come of this branch: consent lost, DTLS failed or closed; or nothing has
    come from it for a while (`SILENCE_S`, or as it was set), and nothing was there for it to hear either."""

    on_keys: Callable[[str, str, str], None]
    """(call, branch, key): a key (0-9, *, #, A-D) was pressed there (RFC 4733), told once, as soon as it is heard.

    At most 20 a second of each branch are told. Keys that come another way (SIP INFO) are not known here.
    """

    on_recorded: Callable[[str, str, str, float], None]
    """(call, branch, why, seconds): a recording ended by itself, and its file is complete.

    why: "limit", "silence", "key" (# was pressed, which `on_keys` is then not told), "gone" (the branch was lost,
    dropped or deleted), "failed" (the file could not be written; what had been written before stays).
    """

    on_quality: Callable[[str, str, str, dict[str, Any]], None]
    """(call, branch, what, {kind: facts}): "poor", the voice on this branch has been worse than a MOS of 3 for 10 s;
    "fair", it is no longer; "silent", a phone has sent nothing at all for a while, though it should and there was
    something for it to hear (told once; {} if nothing ever came); "ended", the branch is over (told of those alone in
    which something came).

    facts are those of `stats` under "quality", of all the time; and started_at (epoch seconds), seconds, lost, received
    (packets from the peer), and of audio mos_lately, that of the last few seconds.
    """

    on_tapped: Callable[[str, str, float], None]
    """(call, why, seconds): what `tap` began ended by itself, and its file is complete.

    why: "limit", "gone" (neither branch is there any more), "pictures" (see `tap`), "failed" (what had been written
    before stays), behind which the reason may stand: "failed: No space left on device".
    """

    on_transcoding: Callable[[str, str, str], None]
    """(call, branch, branch): the sound between these two is transcoded from now on; told once for a pair."""

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

        With `like` only what that branch has agreed on is taken: the two can then be joined as they are. Where they
        share no audio codec, `join` transcodes.
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
        wide: bool = False,
        ipv6: bool = False,
        adding: bool = False,
    ) -> Awaitable[bytes]:
        """Our offer to a peer, in the codecs and media of branch `like` (only `kinds` of them, if given).

        Without `like` our own audio codecs are offered, and our own video if `kinds` names it; of a branch that has not
        answered yet, what it was offered is followed. With `telephone` only those codecs that every telephone network
        carries (G.711), for a peer who is to be joined with somebody there. With `wide` our own audio codecs stand
        behind those of `like`, to be transcoded if the peer has no other. A peer that is reached by `ipv6` is told an
        address of that family, if there is one. On a branch that is there it is a re-offer of what is agreed, narrowed
        to what `like` has, and with `adding` more media of it besides; `profile` then changes nothing.
        """

    def accept(self, call: str, branch: str, answer: bytes) -> Awaitable[None]:
        """The peer's answer to our latest offer."""

    def answer_joined(
        self, call: str, branch: str, offer: bytes, *, peer: str, answer: bytes
    ) -> Awaitable[bytes]:
        """In one step what a callee's answer asks for: `peer` has sent `answer` to our latest offer, `branch` gets its
        answer to `offer` like that, and the two are joined."""

    def seen_at(self, call: str, branch: str, address: str) -> Awaitable[None]:
        """This peer's signalling comes from `address`: that of its NAT maybe, from where its packets come then too.

        They are taken from there as from where its description says, until another description says otherwise. Of a
        peer that names an address at which none can be (loopback, link-local) nothing else is known: until it is heard
        nothing is sent to it.
        """

    def compatible(self, call: str, a: str, b: str) -> Awaitable[bool]:
        """False: `a` should be re-offered like `b`, or `join` will have to transcode their sound."""

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
        """Media both ways from now on; ends what is played to either, and asks both for a key frame.

        Packets pass as they are; the sound of two that share no audio codec is transcoded, which `on_transcoding` is
        told: OurError(503) when that takes too much of the process already.
        """

    def join_alike(self, call: str, a: str, b: str) -> Awaitable[bool]:
        """`join` if they are `compatible`, in one step. False: they are not, and nothing has changed."""

    def confer(
        self, call: str, branches: Sequence[str], *, hears: Mapping[str, Sequence[str]] | None = None
    ) -> Awaitable[None]:
        """From now on these 2 to 5 branches each hear all the others (whatever their codecs), and nobody else; what
        any of them was joined with or was played is over. A branch of which `hears` tells hears only those it names.

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

    def tap(
        self,
        call: str,
        left: str,
        right: str,
        path: str,
        *,
        video: bool = False,
        key: bytes | None = None,
        limit_s: float,
    ) -> Awaitable[None]:
        """Record from now on what branch `left` says on the left of a new file, and `right` on the right.

        One of them must be there; the other may come later, and each may leave and come again: where it is not, or on
        hold, its side is silent. What they are played is not recorded. By its ending the file is WAV (.wav, 16 bits, 8
        or 16 kHz) or Opus in Matroska (.mka, .mkv); with `video` (.mkv) the pictures of both are in it as they were
        sent, a track each, whenever they come and go. A .wav has no place for them, and with `video` ends by itself as
        soon as they are agreed on, which is at once if they are there. With `key` (32 bytes) it is sealed, see
        `media.sealed_file`. Resolves when there is a file; its folder is made if need be. Whatever is killed, it can be
        played up to the last second.

        It ends by `end_tap`, or by itself (`on_tapped`): at `limit_s` seconds (12 hours at most), when neither branch
        is there, when it fails. OurError(500) while the call is tapped already or if there can be no such file,
        OurError(503) when too much is recorded.
        """

    def pause_tap(self, call: str, paused: bool) -> Awaitable[bool]:
        """While paused both sides are silent and no picture moves, and time goes on. False: nothing is recorded."""

    def end_tap(self, call: str) -> Awaitable[float]:
        """End the recording, of which `on_tapped` is then not told; its seconds, 0.0 if none was running.

        The file is complete and on the disk when this resolves; but where that takes longer than 5 s, because the
        recording process is behind, this resolves, and the file is completed as soon as may be.
        """

    def drop(self, call: str, branch: str) -> Awaitable[None]:
        """End a branch and free what it holds."""

    def delete(self, call: str) -> Awaitable[None]:
        """End all branches of a call."""

    def stats(self, call: str) -> Awaitable[dict[str, Any]]:
        """{branch: {"ready", "kinds": {kind: {packets_in, packets_out, bytes_in, bytes_out, last_packet_at,
        quality}}}}.

        `last_packet_at` is in epoch seconds, None before the first. quality: {loss_in, loss_out (0 to 1: of what the
        peer sent, of what we sent it), jitter_ms, round_trip_ms, mos (1 to 4.5; of audio)}, of the way between it and
        us, since the branch began; None for what is not known.
        """
