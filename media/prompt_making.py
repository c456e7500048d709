"""Makes the prompts: music by arithmetic, speech by espeak-ng, codecs by PyAV.

python -m media.prompt_making DIR
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from media.prompts import NAMES, SPOKEN, TICKS, encoded_path, pack

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

# Codec -> (FFmpeg's encoder, sample rate, samples in 20 ms)
ENCODERS = {
    "opus": ("libopus", 48000, 960),
    "g722": ("g722", 16000, 320),
    "pcma": ("pcm_alaw", 8000, 160),
    "pcmu": ("pcm_mulaw", 8000, 160),
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


def write_wav(path: Path, sound: Sound) -> None:
    samples = (np.clip(sound, -1, 1) * 32767).astype("<i2")
    partial = path.with_suffix(".part")
    with wave.open(str(partial), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    partial.replace(path)


def speak(text: str, path: Path) -> Sound:
    """`path` is where espeak-ng may write."""
    program = shutil.which("espeak-ng")
    if program is None:
        return chime()
    spoken = path.with_suffix(".spoken")
    made = subprocess.run(
        [program, "-v", "en-us", "-s", "150", "-w", str(spoken), text], capture_output=True, check=False
    )
    try:
        if made.returncode:
            return chime()
        sound = read_sound(spoken, RATE).astype(np.float64)
    except (OSError, av.FFmpegError):
        return chime()
    finally:
        spoken.unlink(missing_ok=True)
    peak = np.abs(sound).max() if sound.size else 0.0
    if not peak:
        return chime()
    lead = np.zeros(int(0.2 * RATE))
    return np.concatenate((lead, sound * (SPEECH_PEAK / peak), lead))


def read_sound(path: Path, rate: int) -> NDArray[np.int16]:
    """Any sound file, as mono samples at `rate`."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=rate)
    pieces = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            pieces += [piece.to_ndarray()[0] for piece in resampler.resample(frame)]
        pieces += [piece.to_ndarray()[0] for piece in resampler.resample(None)]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)


def encode(samples: NDArray[np.int16], codec: str) -> list[bytes]:
    """Frames of 20 ms; the last one is filled up with silence."""
    encoder, rate, size = ENCODERS[codec]
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, av.AudioCodecContext)
    context.sample_rate = rate
    context.layout = "mono"
    context.format = "s16"
    if codec == "opus":
        context.bit_rate = 32000
        context.options = {"frame_duration": "20", "application": "audio"}
    padded = np.concatenate((samples, np.zeros(-len(samples) % size, np.int16)))
    frames: list[bytes] = []
    for start in range(0, len(padded), size):
        frame = av.AudioFrame.from_ndarray(padded[start : start + size].reshape(1, -1), "s16", "mono")
        frame.sample_rate = rate
        frame.pts = start
        frames += [bytes(packet) for packet in context.encode(frame)]
    frames += [bytes(packet) for packet in context.encode(None)]
    return frames


def make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        sound = folder / f"{name}.wav"
        if not sound.exists():
            write_wav(sound, music() if name == "music" else speak(SPOKEN[name], sound))
        for codec in TICKS:
            encoded = encoded_path(folder, name, codec)
            partial = encoded.with_suffix(".part")
            partial.write_bytes(pack(encode(read_sound(sound, ENCODERS[codec][1]), codec)))
            partial.replace(encoded)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
