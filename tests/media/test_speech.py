"""Codecs and rates: what goes in comes out, as FFmpeg hears it too."""

from __future__ import annotations

from typing import Any

import av
import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from media.speech import Decoder, Encoder, Resampler, clipped
from tests.media.tone_phone import level

LIBRARIES = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw"}


def tone(frequency: float, rate: int, seconds: float = 1.0, size: float = 8000) -> NDArray[numpy.int16]:
    at = numpy.arange(int(rate * seconds)) / rate
    return (size * numpy.sin(2 * numpy.pi * frequency * at)).astype(numpy.int16)


@pytest.mark.parametrize("codec", ["pcmu", "pcma"])
def test_each_octet_means_what_it_means_to_others(codec: str) -> None:
    context: Any = av.CodecContext.create(LIBRARIES[codec], "r")
    context.sample_rate, context.layout = 8000, "mono"
    theirs = context.decode(av.Packet(bytes(range(256))))[0].to_ndarray()[0]
    assert (Decoder(codec, 8000).decode(bytes(range(256))) == theirs).all()


@pytest.mark.parametrize("codec", ["pcmu", "pcma"])
def test_no_octet_would_have_come_nearer(codec: str) -> None:
    samples = numpy.arange(-32768, 32768, 7).astype(numpy.int16)
    heard = Decoder(codec, 8000).decode(Encoder(codec, 8000).encode(samples)).astype(int)
    levels = Decoder(codec, 8000).decode(bytes(range(256))).astype(int)
    best = numpy.abs(levels[None, :] - samples.astype(int)[:, None]).min(axis=1)
    assert (numpy.abs(heard - samples) == best).all()


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("codec", ["pcmu", "pcma", "g722", "opus"])
def test_a_tone_is_heard_as_it_was_said(codec: str, rate: int) -> None:
    encoder, decoder = Encoder(codec, rate), Decoder(codec, rate)
    samples, size = tone(620, rate), rate // 50
    frames = [encoder.encode(samples[at : at + size]) for at in range(0, len(samples), size)]
    heard = numpy.concatenate([decoder.decode(frame) for frame in frames if frame])
    assert len(heard) == pytest.approx(rate, abs=2 * size)
    assert level(heard[rate // 2 :], rate, 620) == pytest.approx(8000, rel=0.05)
    for other in (440, 880, 1240):
        assert level(heard[rate // 2 :], rate, other) < 200


@pytest.mark.parametrize(("rate", "to"), [(8000, 16000), (16000, 8000), (48000, 16000), (48000, 8000)])
def test_what_both_rates_can_carry_is_kept_and_nothing_is_added(rate: int, to: int) -> None:
    resample = Resampler(rate, to)
    samples = tone(1000, rate)
    heard = numpy.concatenate([resample(samples[at : at + rate // 50]) for at in range(0, rate, rate // 50)])
    assert len(heard) == to
    assert level(heard[to // 2 :], to, 1000) == pytest.approx(8000, rel=0.02)
    if to < rate:
        high = numpy.concatenate([Resampler(rate, to)(tone(to * 0.6, rate))])
        assert numpy.abs(high[to // 2 :]).max() < 300, (
            "what the lower rate cannot carry is not heard as another tone"
        )
    else:
        assert level(heard[to // 2 :], to, rate - 1000) < 100


@given(st.lists(st.integers(1, 500), max_size=20))
def test_however_it_is_cut_the_sound_is_the_same(pieces: list[int]) -> None:
    samples = tone(700, 48000, sum(pieces) / 48000)
    cut, at = Resampler(48000, 16000), 0
    heard = [numpy.zeros(0, numpy.int16)]
    for piece in pieces:
        heard.append(cut(samples[at : at + piece]))
        at += piece
    whole = Resampler(48000, 16000)(samples[:at])
    assert (numpy.concatenate(heard) == whole).all()


def test_what_is_too_loud_does_not_wrap_around() -> None:
    assert clipped(numpy.array([40000, -40000, 5], numpy.int32)).tolist() == [32767, -32768, 5]


@given(st.sampled_from(["pcmu", "pcma", "g722", "opus"]), st.binary(max_size=200))
def test_no_payload_does_harm(codec: str, payload: bytes) -> None:
    decoder = Decoder(codec, 16000)
    assert len(decoder.decode(payload)) <= 16000
    assert decoder.decode(payload).dtype == numpy.int16


@pytest.mark.parametrize("codec", ["pcmu", "pcma", "g722", "opus"])
def test_after_a_packet_without_payload_the_voice_goes_on(codec: str) -> None:
    """RFC 6263 section 4.2: phones send such to keep a way through NAT open."""
    encoder, decoder = Encoder(codec, 8000), Decoder(codec, 8000)
    frames = [encoder.encode(tone(440, 8000, 0.02)) for _ in range(10)]
    assert sum(len(decoder.decode(frame)) for frame in frames[:5]) >= 640
    assert len(decoder.decode(b"")) == 0
    assert sum(len(decoder.decode(frame)) for frame in frames[5:]) == 800
