// What somebody who waits may do instead, and the page that rings. It knows the elements and nothing of the server.

import { expectation, ringsHere } from "./words.js";

const byId = (id) => document.getElementById(id);
const RING_TITLE = "Your call back";
const RING_MS = 2000;
const MOVES = ["chat", "voice", "video"];

// acts: {callBack(way), stay(), move(channel), answer(), notNow()}
export function listen(acts) {
  byId("help-call-back").addEventListener("click", () => unfold(byId("help-ways").hidden));
  for (const way of ["app", "phone"]) byId(`help-way-${way}`).addEventListener("click", () => acts.callBack(way));
  for (const channel of MOVES) byId(`help-move-${channel}`).addEventListener("click", () => acts.move(channel));
  byId("help-stay").addEventListener("click", acts.stay);
  byId("help-answer").addEventListener("click", acts.answer);
  byId("help-not-now").addEventListener("click", acts.notNow);
}

function unfold(open) {
  byId("help-ways").hidden = !open;
  byId("help-call-back").setAttribute("aria-expanded", String(open));
}

// Whether there is anything that a contact like this may do instead of waiting.
export function hasChoices(contact) {
  const can = contact.can_call_back;
  return contact.state === "waiting" && Boolean(contact.channels?.length || contact.call_back || can?.app || can?.phone);
}

export function show(contact) {
  const waits = byId("help-wait");
  const words = expectation(contact);
  if (waits.textContent !== words) waits.textContent = words;
  waits.hidden = !words;
  const back = contact.call_back;
  const can = contact.can_call_back ?? {};
  const offered = !back && Boolean(can.app || can.phone);
  byId("help-call-back").hidden = !offered;
  if (!offered) unfold(false);
  byId("help-way-app").hidden = !can.app;
  byId("help-way-phone").hidden = !can.phone;
  byId("help-way-number").textContent = can.phone ?? "";
  const moves = contact.channels ?? [];
  for (const channel of MOVES) byId(`help-move-${channel}`).hidden = !moves.includes(channel);
  byId("help-moves").hidden = moves.length === 0;
  // Who called us by telephone has no line in this page to wait on.
  byId("help-stay").hidden = !back || moves.length === 0;
  byId("help-keep").textContent = !back
    ? "You can go on reading: your place is kept."
    : back.way === "phone"
      ? "Your place is kept. You can close this page: your telephone will ring."
      : "Your place is kept. Go on reading, and keep one of our pages open: it will ring.";
  ring(ringsHere(contact));
}

// The page rings: to be heard, felt and seen, whatever tab the customer looks at.

let ringing = null;
let title = "";
let audio = null;

export function ring(on) {
  if (on === (ringing !== null)) return;
  if (!on) {
    clearInterval(ringing);
    ringing = null;
    if (document.title === RING_TITLE) document.title = title;
    navigator.vibrate?.(0);
    audio?.close().catch(() => {});
    audio = null;
    return;
  }
  let shown = false;
  const once = () => {
    // Reading on may have changed it meanwhile.
    if (document.title !== RING_TITLE) title = document.title;
    shown = !shown;
    document.title = shown ? RING_TITLE : title;
    if (shown) sound();
  };
  ringing = setInterval(once, RING_MS / 2);
  once();
}

function sound() {
  // A browser may forbid either until the page was touched: the title and the dock are there in any case.
  try {
    navigator.vibrate?.([300, 150, 300]);
    audio ??= new AudioContext();
    const volume = audio.createGain();
    volume.connect(audio.destination);
    const now = audio.currentTime;
    for (const [at, pitch] of [[0, 660], [0.22, 880], [0.44, 660]]) {
      const tone = audio.createOscillator();
      tone.frequency.value = pitch;
      tone.connect(volume);
      tone.start(now + at);
      tone.stop(now + at + 0.18);
    }
    volume.gain.setValueAtTime(0.16, now);
    volume.gain.linearRampToValueAtTime(0.0001, now + 0.7);
  } catch {
    audio = null;
  }
}
