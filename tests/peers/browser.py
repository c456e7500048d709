"""Chromium through Playwright: the customer with a phone or a desktop in hand."""

from __future__ import annotations

import struct
import wave
from math import pi, sin
from pathlib import Path
from typing import Any, Self

from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright

from tests.peers.process import until

CHROMIUM = "/usr/bin/chromium"
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 800}
FLAGS = (
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)

# The page's own RTCPeerConnections are kept so that a test can ask them for their statistics.
KEEP_CONNECTIONS = """
window.testConnections = [];
const Original = window.RTCPeerConnection;
window.RTCPeerConnection = new Proxy(Original, {
  construct(target, args) { const made = new target(...args); window.testConnections.push(made); return made; },
});
"""

STATISTICS = """
async () => {
  const found = {framesDecoded: 0, framesSent: 0, audioIn: 0, audioOut: 0, connection: 'none', codecs: []};
  for (const connection of window.testConnections) {
    if (connection.connectionState === 'closed') continue;
    found.connection = connection.connectionState;
    const report = await connection.getStats();
    report.forEach((entry) => {
      if (entry.type === 'inbound-rtp' && entry.kind === 'video') found.framesDecoded = entry.framesDecoded || 0;
      if (entry.type === 'outbound-rtp' && entry.kind === 'video') found.framesSent = entry.framesSent || 0;
      if (entry.type === 'inbound-rtp' && entry.kind === 'audio') found.audioIn = entry.packetsReceived || 0;
      if (entry.type === 'outbound-rtp' && entry.kind === 'audio') found.audioOut = entry.packetsSent || 0;
      if (entry.type === 'codec') found.codecs.push(entry.mimeType);
    });
  }
  return found;
}
"""

# smoothingTimeConstant 0: otherwise the analyser still shows what was heard seconds ago.
TONE = """
async (milliseconds) => {
  const live = window.testConnections.filter((c) => c.connectionState !== 'closed').pop();
  if (!live) return [0, 0];
  const track = live.getReceivers().map((r) => r.track).find((t) => t && t.kind === 'audio');
  if (!track) return [0, 0];
  const context = new AudioContext();
  await context.resume();
  const analyser = context.createAnalyser();
  analyser.fftSize = 8192;
  analyser.smoothingTimeConstant = 0;
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  await new Promise((done) => setTimeout(done, milliseconds));
  const levels = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(levels);
  const rate = context.sampleRate;
  await context.close();
  let best = 3;
  for (let i = 3; i < levels.length; i += 1) if (levels[i] > levels[best]) best = i;
  return [best * rate / 8192, levels[best]];
}
"""

# Mean colour of the remote picture: a picture that moves or has colours is not black.
COLOURS = """
() => {
  const video = document.querySelector('#remote-video');
  if (!video || !video.videoWidth) return null;
  const canvas = document.createElement('canvas');
  canvas.width = 16; canvas.height = 12;
  const drawing = canvas.getContext('2d');
  drawing.drawImage(video, 0, 0, 16, 12);
  return Array.from(drawing.getImageData(0, 0, 16, 12).data);
}
"""


def write_tone(path: Path, frequency: int, seconds: float = 2.0) -> Path:
    """A mono 48 kHz WAV of a sine, which Chromium loops as its microphone."""
    rate = 48000
    with wave.open(str(path), "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(rate)
        samples = (int(12000 * sin(2 * pi * frequency * i / rate)) for i in range(int(rate * seconds)))
        recording.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return path


class Customer:
    """One customer with a browser of their own. `loopback` False runs Chromium as users run it."""

    def __init__(
        self,
        folder: Path,
        portal: str,
        *,
        tone: int = 620,
        viewport: dict[str, int] = PHONE,
        loopback: bool = True,
    ) -> None:
        self.folder = folder
        self.portal = portal
        self._tone = tone
        self._viewport = viewport
        self._loopback = loopback
        self.console: list[str] = []

    async def __aenter__(self) -> Self:
        microphone = write_tone(self.folder / f"microphone-{self._tone}.wav", self._tone)
        flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
        if self._loopback:
            flags.append("--allow-loopback-in-peer-connection")
        self._playwright = await async_playwright().start()
        self._browser: Browser = await self._playwright.chromium.launch(
            executable_path=CHROMIUM, args=flags, headless=True
        )
        self.context: BrowserContext = await self._browser.new_context(
            viewport=self._viewport,  # type: ignore[arg-type]
            permissions=["camera", "microphone"],
            ignore_https_errors=True,
        )
        await self.context.add_init_script(KEEP_CONNECTIONS)
        self.page: Page = await self.context.new_page()
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(f"ERROR {error}"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._browser.close()
        await self._playwright.stop()

    async def vanish(self) -> None:
        """The browser is gone at once, without a word to anybody, as when its phone's battery ends."""
        await self._browser.close()

    async def log_in(self, email: str, password: str) -> None:
        await self.page.goto(f"{self.portal}/login")
        await self.page.fill("input[name=email]", email)
        await self.page.fill("input[name=password]", password)
        await self.page.click("form [type=submit]")
        await self.page.wait_for_url(lambda url: "/login" not in url)

    async def read(self, slug: str) -> None:
        await self.page.goto(f"{self.portal}/articles/{slug}")

    async def ask_for(self, channel: str, text: str = "") -> None:
        """Press Help and choose a channel: chat, voice or video."""
        await self.page.click("#help-button")
        await self.page.wait_for_selector(f"[data-channel={channel}]")
        await self.page.click(f"[data-channel={channel}]")
        await until(
            lambda: self.in_state("waiting", "ringing", "connected"), "the dock to show the wait", seconds=15
        )

    @property
    def dock(self) -> Locator:
        return self.page.locator("#help")

    async def state(self) -> str:
        return (await self.dock.get_attribute("data-state")) or ""

    async def in_state(self, *states: str) -> bool:
        return await self.state() in states

    async def reaches(self, *states: str, seconds: float = 15.0) -> None:
        await until(
            lambda: self.in_state(*states),
            f"the dock in {states} (console: {self.console[-8:]})",
            seconds=seconds,
        )

    async def hang_up(self) -> None:
        await self.page.click("#help-hangup")

    async def request_by_api(self, channel: str, product: str, article: str | None = None) -> dict[str, Any]:
        """Ask for help as the page's script does, without its buttons (which may say that nobody is there)."""
        contact: dict[str, Any] = await self.page.evaluate(
            """async ([channel, product, article]) => {
              const answer = await fetch('/api/contacts', {
                method: 'POST',
                headers: {
                  'Content-Type': 'application/json',
                  'X-CSRF-Token': document.querySelector('meta[name=csrf]').content,
                },
                body: JSON.stringify({channel, product, article, visit: null, text: null}),
              });
              return await answer.json();
            }""",
            [channel, product, article],
        )
        return contact

    async def say(self, text: str) -> None:
        await self.page.fill("#chat-input", text)
        await self.page.click("#chat-send")

    async def chat(self) -> str:
        return await self.page.inner_text("#chat-log")

    async def statistics(self) -> dict[str, Any]:
        found: dict[str, Any] = await self.page.evaluate(STATISTICS)
        return found

    async def hears(self, milliseconds: int = 400) -> tuple[float, float]:
        """(frequency in Hz, level in dB) of the loudest tone that the browser hears now."""
        frequency, level = await self.page.evaluate(TONE, milliseconds)
        return float(frequency), float(level or -200.0)

    async def hears_anything(self) -> bool:
        return (await self.hears())[1] > -75

    async def hears_tone(self, frequency: int) -> bool:
        heard, level = await self.hears()
        return level > -70 and abs(heard - frequency) <= 0.05 * frequency

    async def sees_moving_pictures(self) -> bool:
        """True when frames go on being decoded and the picture has colours."""
        before = (await self.statistics())["framesDecoded"]
        await self.page.wait_for_timeout(500)
        after = (await self.statistics())["framesDecoded"]
        pixels = await self.page.evaluate(COLOURS)
        return after > before and pixels is not None and max(pixels[0::4]) - min(pixels[0::4]) > 30
