// What the Help dock shows. It knows the elements and nothing of contacts, calls or the server.

import { hasChoices } from "./waiting.js";
import { asksWhetherItHelped, corner, ringsHere, whyNoVideo } from "./words.js";

const byId = (id) => document.getElementById(id);
export const dock = byId("help");
const remoteVideo = byId("remote-video");
const localVideo = byId("local-video");

const PANELS = {
  idle: [],
  choosing: ["choosing"],
  asking: ["asking"],
  waiting: ["wait", "controls"],
  ringing: ["wait", "controls"],
  connected: ["controls"],
  rings: ["ring"],
  ended: ["feedback"],
};
const TITLES = { chat: "Chat", voice: "Voice call", video: "Video call" };
let talkingSince = null;
let inCorner = "";
let asksAfterwards = false;

// `state` is what tests and styles see; `asking` is a pause within it, while the browser asks for the camera.
export function show(state, contact = {}) {
  const { channel = "", asking = false, connected_at: since = null, call_back: back = null, by_phone: byPhone = false } = contact;
  const rings = ringsHere({ ...contact, state });
  dock.dataset.state = state;
  dock.dataset.medium = channel;
  dock.dataset.way = rings ? "rings" : back ? "called-back" : byPhone ? "phone" : "";
  inCorner = corner({ ...contact, state });
  asksAfterwards = asksWhetherItHelped(contact);
  const panels = new Set(PANELS[asking ? "asking" : rings ? "rings" : state]);
  if (!asking && channel === "chat" && state !== "choosing") panels.add("chat");
  if (!asking && channel !== "chat" && !back && !byPhone && ["waiting", "ringing", "connected"].includes(state)) panels.add("stage");
  if (!asking && hasChoices({ ...contact, state })) panels.add("instead");
  for (const panel of dock.querySelectorAll("[data-panel]")) panel.hidden = !panels.has(panel.dataset.panel);
  keepFocus();
  const live = state === "connected";
  const media = channel === "voice" || channel === "video";
  byId("help-title").textContent = TITLES[channel] ?? "Get help";
  byId("help-mute").hidden = !live || !media || byPhone;
  pictures(live && media && !byPhone && !asking ? contact : null);
  byId("help-hangup-text").textContent = !live ? "Leave the queue" : channel === "chat" ? "End chat" : "Hang up";
  byId("help-music").hidden = live || !media || !remoteVideo.srcObject;
  byId("chat-form").hidden = state === "ended";
  // After a reload the call is older than the page. The clocks of two machines may differ: none runs before zero.
  if (live && talkingSince === null) talkingSince = Math.min(Date.now(), since === null ? Infinity : since * 1000);
  if (!live) talkingSince = null;
  tick();
  label();
}

// `call` is what the page's call has of pictures now: {shows, hasPictures, changing}, null where there is no call. A video
// call has them from its beginning; one of voice may have them added, and dropped.
let calls = { shows: false, hasPictures: false, changing: false };
let talks = null;
export function picturesOf(call) {
  calls = call;
  pictures(talks);
}

function pictures(contact) {
  talks = contact;
  const { shows, hasPictures, changing } = calls ?? {};
  const inVoice = contact?.channel === "voice";
  const mayAdd = Boolean(contact && calls && (inVoice || !shows));
  const why = mayAdd && !shows ? whyNoVideo(contact) : "";
  dock.toggleAttribute("data-pictures", Boolean(contact && inVoice && hasPictures));
  dock.toggleAttribute("data-shows", Boolean(shows));
  byId("help-camera").hidden = !contact || mayAdd;
  byId("help-video").hidden = !mayAdd;
  byId("help-video").disabled = Boolean(why || changing);
  pressed(byId("help-video"), Boolean(shows), shows ? "Stop video" : "Add video");
  byId("help-no-video").textContent = why;
  byId("help-no-video").hidden = !why;
}

// A button that was pressed may be hidden by what it did; a keyboard must not begin again at the top of the page.
export function keepFocus() {
  const held = document.activeElement;
  if (isOpen() && byId("help-sheet").contains(held) && held.closest("[hidden]")) byId("help-title").focus({ preventScroll: true });
}

export function status(text) {
  const element = byId("help-status");
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
  label();
}

export function trouble(text, actions = []) {
  byId("help-trouble").hidden = !text;
  byId("help-trouble").textContent = text ?? "";
  const place = byId("help-actions");
  place.hidden = actions.length === 0;
  place.replaceChildren(
    ...actions.map(([words, act]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button plain";
      button.textContent = words;
      button.addEventListener("click", act);
      return button;
    }),
  );
}

// Said politely to who listens instead of looking: the element is there from the start, only its words change.
export function composing(text) {
  const element = byId("chat-composing");
  if (element.textContent !== text) element.textContent = text;
}

export function asking(text) {
  byId("help-asking").textContent = text;
}

export function isOpen() {
  return !byId("help-sheet").hidden;
}

// `quietly`: it opens by itself, and takes the focus from nobody who is writing elsewhere.
export function open({ quietly = false } = {}) {
  if (isOpen()) return;
  byId("help-sheet").hidden = false;
  byId("help-button").setAttribute("aria-expanded", "true");
  dock.dataset.open = "";
  unread(0);
  const writes = quietly && document.activeElement?.matches("input, textarea, select");
  if (!writes) byId("help-title").focus({ preventScroll: true });
}

export function close() {
  if (!isOpen()) return;
  byId("help-sheet").hidden = true;
  byId("help-button").setAttribute("aria-expanded", "false");
  delete dock.dataset.open;
  byId("help-button").focus({ preventScroll: true });
}

let unreadLines = 0;
function unread(count) {
  unreadLines = count;
  label();
}
export const oneMoreUnread = () => unread(unreadLines + 1);

export function agent(name) {
  byId("help-initial").textContent = [...(name || "?")][0].toUpperCase();
}

export function remote(stream) {
  if (remoteVideo.srcObject !== stream) remoteVideo.srcObject = stream;
  if (!stream?.getVideoTracks().length) dock.removeAttribute("data-picture");
  if (!stream) return;
  byId("help-music").hidden = dock.dataset.state === "connected";
  remoteVideo.play().then(
    () => (byId("help-unmute").hidden = true),
    (error) => {
      if (error.name === "NotAllowedError") byId("help-unmute").hidden = false;
    },
  );
}

// A new call begins with the microphone and the camera on.
export function released() {
  pressed(byId("help-mute"), false, "Mute");
  pressed(byId("help-camera"), false, "Camera off");
}

export function pressed(button, isOn, text) {
  button.setAttribute("aria-pressed", String(isOn));
  button.querySelector("span").textContent = text;
}

export function local(stream) {
  localVideo.srcObject = stream?.getVideoTracks().length ? stream : null;
}

// The button in the corner says what goes on while the sheet is closed and the customer reads on.
function label() {
  const state = dock.dataset.state;
  let text = "Get help";
  if (state === "waiting" || state === "ringing") text = "Waiting for help";
  if (state === "connected") text = dock.dataset.medium === "chat" ? "Back to the chat" : `Back to the call · ${clock()}`;
  if (state === "ended") text = asksAfterwards ? "Did it help?" : "It has ended";
  if (inCorner) text = inCorner;
  if (unreadLines) text = `${unreadLines} new · ${text}`;
  byId("help-button-text").textContent = text;
}

function clock() {
  const seconds = talkingSince === null ? 0 : Math.floor((Date.now() - talkingSince) / 1000);
  return `${String(Math.floor(seconds / 60)).padStart(2, "0")}:${String(seconds % 60).padStart(2, "0")}`;
}

function tick() {
  byId("help-timer").hidden = talkingSince === null || dock.dataset.medium === "chat";
  byId("help-timer").textContent = clock();
  if (talkingSince !== null) label();
}

setInterval(tick, 1000);
remoteVideo.addEventListener("resize", () => {
  dock.toggleAttribute("data-picture", remoteVideo.videoWidth > 0);
});
byId("help-unmute").addEventListener("click", () => remote(remoteVideo.srcObject));
byId("help-button").hidden = false;
