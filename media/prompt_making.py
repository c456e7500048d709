"""Makes the prompts: music and tones by arithmetic, speech by espeak-ng, codecs by PyAV.

python -m media.prompt_making DIR [NAME...]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from media.prompts import NAMES, NICE, PIECES, SPOKEN, TICKS, TONES, Prompts, encoded_path, pack
from media.speech import NARROW, WIDE, Encoder, Resampler

Sound = NDArray[np.float64]

RATE = 48000
# Four calm chords in the middle of the telephone band, five seconds each, and the first two again.
CHORDS = (
    (261.63, 329.63, 392.00),
    (293.66, 349.23, 440.00),
    (220.00, 329.63, 440.00),
    (246.94, 293.66, 392.00),
    (261.63, 329.63, 392.00),
    (293.66, 392.00, 493.88),
)
CHORD_S = 5.0
MUSIC_PEAK = 0.25
SPEECH_PEAK = 0.5
TONE_PEAK = 0.25
# Of silence before and after what is spoken, and what is put together with others.
LEAD_S, PIECE_LEAD_S = 0.2, 0.03
SPEECH_EFFORT = 5
# Most of the time goes by in waiting for espeak-ng and the disk: fewer take twice as long.
AT_ONCE = 4

# Codec -> (FFmpeg's encoder, sample rate, samples in 20 ms)
ENCODERS = {
    "opus": ("libopus", RATE, 960),
    "g722": ("g722", WIDE, 320),
    "pcma": ("pcm_alaw", NARROW, 160),
    "pcmu": ("pcm_mulaw", NARROW, 160),
}


def music() -> Sound:
    """Chords that swell and fade into each other, the last into the first, so that it loops without a seam."""
    total = int(len(CHORDS) * CHORD_S * RATE)
    sound = np.zeros(total)
    length = int(CHORD_S * 1.5 * RATE)
    time = np.arange(length) / RATE
    swell = np.sin(np.pi * np.arange(length) / length) ** 2
    for index, chord in enumerate(CHORDS):
        note = np.zeros(length)
        for frequency in chord:
            note += np.sin(2 * np.pi * frequency * time) + 0.2 * np.sin(4 * np.pi * frequency * time)
        where = (int(index * CHORD_S * RATE) + np.arange(length)) % total
        sound[where] += note * swell
    return np.asarray(sound * (MUSIC_PEAK / np.abs(sound).max()))


def chime() -> Sound:
    """Two falling notes, for where no voice can be had."""
    time = np.arange(int(0.9 * RATE)) / RATE
    notes = [np.sin(2 * np.pi * f * time) * np.exp(-4 * time) for f in (880.0, 659.25)]
    return np.asarray(np.concatenate(notes) * 0.3)


def tones(notes: Sequence[tuple[float, float]]) -> Sound:
    """(Hz, seconds) one after the other, each with soft edges: a hard one clicks."""
    sounds = []
    for frequency, seconds in notes:
        time = np.arange(int(seconds * RATE)) / RATE
        edge = np.minimum(1, np.minimum(time, time[::-1]) / 0.005)
        sounds.append(TONE_PEAK * edge * np.sin(2 * np.pi * frequency * time))
    return np.asarray(np.concatenate(sounds))


def write_wav(path: Path, sound: Sound) -> NDArray[np.int16]:
    """The samples it holds."""
    samples = (np.clip(sound, -1, 1) * 32767).astype("<i2")
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")  # another process may be making the same
    with wave.open(str(unfinished), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    unfinished.replace(path)
    return np.asarray(samples, np.int16)


def speak(text: str, path: Path, lead_s: float = LEAD_S) -> Sound:
    """`path` is where espeak-ng may write."""
    program = shutil.which("espeak-ng")
    if program is None:
        return chime()
    spoken = path.with_name(f"{path.name}.{os.getpid()}.spoken")
    made = subprocess.run(
        [program, "-v", "en-us", "-s", "150", "-w", str(spoken), text], capture_output=True, check=False
    )
    try:
        if made.returncode:
            return chime()
        sound = read_speech(spoken)
    except (OSError, wave.Error, EOFError, ValueError):
        return chime()
    finally:
        spoken.unlink(missing_ok=True)
    (loud,) = np.nonzero(np.abs(sound) > 0.01 * np.abs(sound).max(initial=0.0))
    if not loud.size:
        return chime()
    sound = sound[loud[0] : loud[-1] + 1]  # espeak-ng leaves a pause behind, which is ours to choose
    lead = np.zeros(int(lead_s * RATE))
    return np.concatenate((lead, sound * (SPEECH_PEAK / np.abs(sound).max()), lead))


def read_speech(path: Path) -> Sound:
    """As `read_sound` does, in a fraction of the time: espeak-ng writes one kind of file, at 22,050 Hz."""
    with wave.open(str(path), "rb") as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    return np.concatenate(resampled([_frame(samples, rate, 0)], RATE)).astype(np.float64)


def resampled(frames: Iterable[av.AudioFrame], rate: int) -> list[NDArray[np.int16]]:
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    pieces = [piece.to_ndarray()[0] for frame in frames for piece in resampler.resample(frame)]
    return pieces + [piece.to_ndarray()[0] for piece in resampler.resample(None)]


def read_sound(path: Path, rate: int) -> NDArray[np.int16]:
    """Any sound file, as mono samples at `rate`."""
    with av.open(str(path)) as container:
        pieces = resampled(container.decode(audio=0), rate)
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)


def encode(samples: NDArray[np.int16], codec: str, effort: int = 10) -> list[bytes]:
    """Frames of 20 ms; the last one is filled up with silence. effort: Opus's, of 10."""
    encoder, rate, size = ENCODERS[codec]
    padded = np.concatenate((samples, np.zeros(-len(samples) % size, np.int16)))
    if rate == NARROW:
        octets = Encoder(codec, rate).encode(padded)
        return [octets[at : at + size] for at in range(0, len(octets), size)]
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate = rate
    context.layout = "mono"
    context.format = "s16"
    if codec == "opus":
        context.bit_rate = 32000
        context.options = {
            "frame_duration": "20",
            "application": "audio",
            "compression_level": str(effort),
        }
    else:
        # It knows no frames of its own: told the whole, it costs a fraction.
        octets = b"".join(bytes(packet) for packet in context.encode(_frame(padded, rate, 0)))
        return [octets[at : at + size // 2] for at in range(0, len(octets), size // 2)]
    frames: list[bytes] = []
    for start in range(0, len(padded), size):
        packets = context.encode(_frame(padded[start : start + size], rate, start))
        frames += [bytes(packet) for packet in packets]
    return frames + [bytes(packet) for packet in context.encode(None)]


def _frame(samples: NDArray[np.int16], rate: int, start: int) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", "mono")
    frame.sample_rate = rate
    frame.pts = start
    return frame


def sound_of(name: str, path: Path) -> Sound:
    """`path` is where its WAV will stand."""
    if name == "music":
        return music()
    if name in TONES:
        return tones(TONES[name])
    return speak(PIECES[name], path, PIECE_LEAD_S) if name in PIECES else speak(SPOKEN[name], path)


def make_one(folder: Path, name: str) -> None:
    path = folder / f"{name}.wav"
    if path.exists():
        samples = read_sound(path, RATE)
    else:
        samples = write_wav(path, sound_of(name, path))
    at_rate = {RATE: samples} | {rate: Resampler(RATE, rate)(samples) for rate in (NARROW, WIDE)}
    for codec in TICKS:
        frames = encode(at_rate[ENCODERS[codec][1]], codec, 10 if name == "music" else SPEECH_EFFORT)
        encoded = encoded_path(folder, name, codec)
        unfinished = encoded.with_name(f"{encoded.name}.{os.getpid()}.part")
        unfinished.write_bytes(pack(frames))
        unfinished.replace(encoded)


def make(folder: Path, names: Sequence[str] = NAMES) -> None:
    """What of these is missing or out of date."""
    folder.mkdir(parents=True, exist_ok=True)
    stale = {path.stem for path in Prompts(folder).missing(names)}
    others = [name for name in sorted(stale) if name not in NAMES and (folder / f"{name}.wav").exists()]
    with ThreadPoolExecutor(1 if NICE in os.environ else AT_ONCE) as threads:
        # In their order, so that the longest, the music, is not begun last.
        list(threads.map(partial(make_one, folder), [name for name in NAMES if name in stale] + others))


if __name__ == "__main__":
    if NICE in os.environ:
        os.nice(15)
    make(Path(sys.argv[1]), sys.argv[2:] or NAMES)
