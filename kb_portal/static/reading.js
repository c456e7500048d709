// Tells the server how long the page in sight has been in sight, and keeps the page in order while htmx swaps <main>.

const BEAT_MS = 5000;

let view = null; // {id, seconds, since}: since is null while nobody can see the page

function csrf() {
  return document.querySelector('meta[name="csrf"]')?.content ?? "";
}

function now() {
  return performance.now() / 1000;
}

function seen() {
  return view.seconds + (view.since === null ? 0 : now() - view.since);
}

function beat() {
  if (!view || seen() === view.told) return;
  view.told = seen();
  // The whole time is sent, not what was added: a beat that is lost costs nothing, and one that comes twice neither.
  const facts = new URLSearchParams({ csrf: csrf(), view: view.id, seconds: view.told.toFixed(1) });
  navigator.sendBeacon("/track", facts);
}

function pause() {
  if (!view) return;
  view.seconds = seen();
  view.since = null;
  beat();
}

// Whoever is in the Help sheet, talking perhaps, is not reading what lies behind it.
function readable() {
  return document.visibilityState === "visible" && document.getElementById("help-sheet")?.hidden !== false;
}

function resume() {
  if (view && view.since === null && readable()) view.since = now();
}

function change() {
  if (readable()) resume();
  else pause();
}

function open() {
  pause();
  const id = document.getElementById("page")?.dataset.view;
  view = id ? { id, seconds: 0, since: null, told: 0 } : null;
  resume();
}

function trouble(text) {
  const place = document.getElementById("page-trouble");
  place.textContent = text;
  place.hidden = !text;
}

function markCurrent() {
  for (const link of document.querySelectorAll(".top nav a")) {
    if (link.pathname === location.pathname) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

document.addEventListener("visibilitychange", change);
const sheet = document.getElementById("help-sheet");
if (sheet) new MutationObserver(change).observe(sheet, { attributes: true, attributeFilter: ["hidden"] });
window.addEventListener("pagehide", pause);
window.addEventListener("pageshow", resume);
setInterval(beat, BEAT_MS);

// A boosted link swaps <main>: for the reader, and for who listens to the page, that is a new page.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target?.id === "main") pause();
});
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.elt?.id !== "main" && event.detail.target?.id !== "main") return;
  open();
  markCurrent();
  document.getElementById("main")?.focus({ preventScroll: true });
});
document.addEventListener("htmx:historyRestore", () => {
  open();
  markCurrent();
});
// To load the page anew would lose the call or the chat that goes on beside it: the page stays and says why.
document.addEventListener("htmx:sendError", () => trouble("We cannot reach the server. Please check your connection and try again."));
document.addEventListener("htmx:beforeRequest", () => trouble(""));

open();
markCurrent();
