// The Help dock: from the button to a person, and back. It stands outside <main>, so it lives on while pages change.

import { ApiError, get, getHtml, post } from "./api.js";
import { CALLED_AGAIN, Call, NoMedia, openMedia } from "./call.js";
import { Chat } from "./chat.js";
import { Writing } from "./composing.js";
import * as view from "./dock.js";
import * as feedback from "./feedback.js";
import * as recording from "./recording.js";
import { Video } from "./video.js";
import * as waiting from "./waiting.js";
import { describe, farewell, firstName, ringsHere } from "./words.js";

const REFRESH_CHOICES_MS = 10000;
const RETRY_MS = [500, 1000, 2000, 4000, 8000, 8000, 8000];
const HELD_MS = 20000;
const byId = (id) => document.getElementById(id);

class Elsewhere extends Error {
  message = "Your call is open in another tab of this browser. Please go on with it there.";
}

let contact = null; // as the server last told it
let chosenProduct = null; // by hand, on pages about no product
let live = null;
let call = null;
let stream = null;
let redials = 0;
let releaseTab = null;
let pausing = false; // the browser asks for the microphone, or the server was asked: what is shown stays till then

const chat = new Chat(byId("chat-log"), {
  agentName: () => firstName(contact),
  inSight: () => view.isOpen() && document.visibilityState === "visible",
});
const writing = new Writing();
const video = new Video({
  talk: () => (isOpenContact() ? { call, contact } : { call: null, contact: null }),
  present: () => present(),
  words: (error) => words(error),
});

function context() {
  const page = byId("page")?.dataset ?? {};
  return {
    product: page.product ?? chosenProduct,
    article: page.article ?? null,
    visit: page.visit ?? null,
  };
}

const isMedia = (channel) => channel === "voice" || channel === "video";
const isOpenContact = () => contact !== null && contact.state !== "ended";
// Who is called back, or speaks by telephone, has no call of this page's.
const needsCall = (one) => isMedia(one.channel) && !one.call_back && !one.by_phone;

// Choosing.

async function openSheet() {
  view.open();
  chat.look();
  if (contact) return;
  view.show("choosing");
  view.trouble(null);
  await loadChoices();
}

async function loadChoices() {
  const products = byId("help-products");
  const only = products.querySelectorAll("[data-help-product]");
  if (!context().product && only.length === 1) chosenProduct = only[0].dataset.helpProduct;
  const { product, article, visit } = context();
  products.hidden = product !== null;
  view.status("");
  const choices = byId("help-choices");
  if (!product) return choices.replaceChildren();
  const query = new URLSearchParams({ product });
  if (article) query.set("article", article);
  if (visit) query.set("visit", visit);
  try {
    const html = await getHtml(`/api/help?${query}`);
    if (contact || context().product !== product) return;
    // Only what changed is replaced, or focus would jump under the customer's finger every few seconds.
    if (choices.dataset.html !== html) choices.innerHTML = html;
    choices.dataset.html = html;
    view.trouble(null);
  } catch (error) {
    view.trouble(words(error), [wayOut(error) ?? ["Try again", loadChoices]]);
  }
}

function closeSheet() {
  if (contact?.state === "ended" && feedback.isThanked()) return done();
  view.close();
  if (contact) return;
  view.show("idle");
  chosenProduct = null;
}

async function choose(channel) {
  if (contact || view.dock.dataset.busy !== undefined) return;
  view.dock.dataset.busy = "";
  view.trouble(null);
  const asked = context();
  try {
    if (isMedia(channel)) {
      await borrowMedia(channel);
      if (!view.isOpen()) return returnMedia(); // closed while the browser asked: they think better of it
    }
    const made = await post("/api/contacts", { channel, ...asked, text: null });
    // Asked for twice it is one contact. Two tabs must not take its call from each other.
    if (isMedia(channel) && !(await tabIsFree(made.id))) throw new Elsewhere();
    begin(made);
  } catch (error) {
    returnMedia();
    view.show("choosing");
    view.status("");
    view.trouble(words(error), [wayOut(error) ?? wayOn(channel)]);
  } finally {
    delete view.dock.dataset.busy;
  }
}

// What to do about an error that trying again does not mend.
function wayOut(error) {
  if (error.status === 401) return ["Log in", () => location.reload()];
  // They have another contact open, of which this page did not know.
  if (error.status === 409) return ["Go on with it", resumeAgain];
  return null;
}

function wayOn(channel) {
  const { secureUrl } = view.dock.dataset;
  if (window.isSecureContext || !secureUrl || !isMedia(channel)) return ["Try again", () => choose(channel)];
  return ["Open the secure page", () => location.assign(new URL(location.pathname, secureUrl))];
}

function openSheetAgain() {
  view.trouble(null);
  view.show("choosing");
  loadChoices();
}

async function borrowMedia(channel) {
  const video = channel === "video";
  view.show(contact?.state ?? "choosing", { asking: true });
  view.asking(
    video
      ? "Your browser now asks whether this page may use your camera and microphone. Please choose Allow. They are on for this call only."
      : "Your browser now asks whether this page may use your microphone. Please choose Allow. It is on for this call only.",
  );
  stream = await openMedia(video, view.dock.dataset.secureUrl);
  view.local(stream);
}

function stopAll(lent) {
  for (const track of lent?.getTracks() ?? []) track.stop();
}

function returnMedia() {
  stopAll(stream);
  stream = null;
  view.local(null);
  view.remote(null);
  view.dock.removeAttribute("data-picture");
}

// A contact, from its first state to its last.

function begin(made) {
  contact = made;
  redials = 0;
  holdTab();
  view.released();
  if (made.channel === "chat") chat.open(made.id);
  follow();
  apply(made);
  if (needsCall(contact)) dial();
}

function apply(told) {
  if (!contact || told.id !== contact.id || contact.state === "ended") return;
  contact = { ...contact, ...told };
  for (const message of told.messages ?? []) chat.heard(message);
  if (contact.state === "ended") return finish();
  view.agent(contact.agent?.name);
  // It was the server that found they had waited too long, and will call them back.
  if (call && contact.call_back && !contact.call_back.calling && !pausing) hangUpQuietly();
  if (pausing) return;
  present();
}

function present() {
  const rings = ringsHere(contact) && !call;
  recording.show(contact);
  waiting.show(rings ? contact : { ...contact, call_back: call ? null : contact.call_back });
  view.show(contact.state, call ? { ...contact, call_back: null } : contact);
  view.status(video.asking || (call && contact.call_back ? "Connecting you…" : describe(contact)));
  if (rings) view.open({ quietly: true });
}

function follow() {
  live?.close();
  const id = contact.id;
  live = new EventSource(`/api/contacts/${id}/live`);
  live.addEventListener("state", (event) => apply(JSON.parse(event.data)));
  live.addEventListener("message", (event) => {
    const message = JSON.parse(event.data);
    if (contact?.id !== id) return;
    chat.heard(message);
    if (message.from === "agent") view.composing("");
    if (!view.isOpen() && message.from !== "customer") view.oneMoreUnread();
  });
  for (const mark of ["delivered", "read"]) {
    live.addEventListener(mark, (event) => contact?.id === id && chat.marked(JSON.parse(event.data).id, mark));
  }
  live.addEventListener("composing", (event) => {
    if (contact?.id === id) view.composing(JSON.parse(event.data).active ? `${firstName(contact)} is writing…` : "");
  });
  live.addEventListener("error", () => {
    if (contact?.id !== id || !isOpenContact()) return;
    view.composing(""); // what is true now is told again when we are back
    // A call that is joined does not need us to go on. All else does, and nobody must wait for news that cannot come.
    if (contact.state !== "connected" || contact.channel === "chat") view.status("Connection lost. Trying again…");
    // While it is CONNECTING the browser tries again by itself; CLOSED means the server said no, and we ask why.
    if (live?.readyState === EventSource.CLOSED) setTimeout(() => isOpenContact() && contact.id === id && look(), 2000);
  });
}

async function look() {
  const id = contact.id;
  try {
    const told = await get(`/api/contacts/${id}`);
    if (contact?.id !== id) return;
    apply(told);
    if (isOpenContact()) follow();
  } catch (error) {
    if (contact?.id !== id || !isOpenContact()) return;
    if (error instanceof ApiError && !error.passing) return apply(lostBy(error));
    view.status("Connection lost. Trying again…");
    setTimeout(() => contact?.id === id && isOpenContact() && look(), 3000);
  }
}

function lostBy(error) {
  return { id: contact.id, state: "ended", disposition: error.status === 401 ? "logged_out" : "lost" };
}

async function dial() {
  const id = contact.id;
  const mine = new Call(stream, {
    remote: (heard) => view.remote(heard),
    joined: () => {
      if (mine !== call || !isOpenContact()) return;
      if (!pausing) present();
      // A line that has held is trusted again; one that breaks at once must not be redialled for ever.
      setTimeout(() => mine === call && (redials = 0), HELD_MS);
    },
    pictures: () => mine === call && video.show(),
    line: (isUp) => {
      if (mine === call && isOpenContact()) view.status(isUp ? describe(contact) : "The line is interrupted. Please wait a moment…");
    },
    closed: (reason) => {
      if (mine !== call) return;
      if (reason === CALLED_AGAIN) goneElsewhere();
      else redial(id, reason);
    },
  });
  call = mine;
  video.begin();
  try {
    await mine.start(contact.uri, view.dock.dataset.jssip);
  } catch {
    mine.hangup("could not start");
  }
}

// Our call ended. When the contact did not, the line was lost: the same address may be called again.
async function redial(id, reason) {
  call = null;
  const same = () => contact?.id === id && isOpenContact() && call === null;
  await new Promise((resume) => setTimeout(resume, RETRY_MS[Math.min(redials, RETRY_MS.length - 1)]));
  if (!same()) return;
  try {
    apply(await get(`/api/contacts/${id}`));
  } catch (error) {
    if (same() && error instanceof ApiError && !error.passing) return apply(lostBy(error));
  }
  if (!same()) return;
  // It was the call that answered a call back: whether there is another, the server says.
  if (!needsCall(contact)) return returnMedia(), present();
  if (++redials > RETRY_MS.length) {
    view.trouble(`The call could not be set up (${reason}).`, [["Try again", () => ((redials = 0), view.trouble(null), dial())]]);
    return;
  }
  view.status("The line was lost. Calling again…");
  dial();
}

// Instead of waiting on: a call back, or another channel. A call that was there goes on until the server has agreed.

async function instead(path, body, media = null) {
  if (pausing || !isOpenContact()) return;
  const { id } = contact;
  const same = () => contact?.id === id && isOpenContact();
  const before = { call, stream };
  const endCall = () => {
    before.call?.hangup();
    stopAll(before.stream);
    if (!media || !same()) returnMedia();
  };
  pausing = true;
  view.trouble(null);
  try {
    if (media) await borrowMedia(media);
    if (!same()) return endCall();
    call = null; // the server ends it, and that is no line lost
    const told = await post(`/api/contacts/${id}/${path}`, body);
    endCall();
    if (!same()) return;
    if (told.channel === "chat") chat.open(id);
    redials = 0;
    contact = { ...contact, ...told };
    if (needsCall(contact) && stream) dial();
  } catch (error) {
    if (!same()) return endCall();
    if (stream !== before.stream) stopAll(stream);
    stream = before.stream;
    view.local(stream);
    call = before.call?.over ? null : before.call;
    if (!call && stream && needsCall(contact)) dial();
    const goOn = ["All right", () => view.trouble(null)];
    view.trouble(words(error), [error.status === 401 ? wayOut(error) : goOn]);
  } finally {
    pausing = false;
    if (same()) present();
  }
}

async function answer() {
  if (pausing || !isOpenContact() || call) return;
  const { id } = contact;
  const rings = () => contact?.id === id && isOpenContact() && ringsHere(contact);
  pausing = true;
  waiting.ring(false);
  view.trouble(null);
  try {
    await borrowMedia(contact.channel);
    if (rings()) dial();
    else returnMedia();
  } catch (error) {
    if (contact?.id === id) view.trouble(words(error));
  } finally {
    pausing = false;
    if (contact?.id === id && isOpenContact()) present();
  }
}

async function notNow() {
  const { id } = contact;
  waiting.ring(false);
  try {
    await post(`/api/contacts/${id}/call-back/refuse`);
  } catch (error) {
    if (contact?.id === id) view.trouble(words(error));
  }
}

async function allowRecording(allow) {
  const { id } = contact;
  try {
    apply(await post(`/api/contacts/${id}/recording`, { allow }));
    if (contact?.id === id) view.trouble(null);
  } catch (error) {
    if (contact?.id === id) view.trouble(words(error), [wayOut(error) ?? ["Try again", () => allowRecording(allow)]]);
  }
}

function leave() {
  if (!isOpenContact()) return;
  const { id } = contact;
  // Both ways at once: the BYE ends the call even when the API is slow, the post even when the call never began.
  tellEnded(id);
  apply({ id, state: "ended", disposition: "customer" });
}

// Until the server knows, an agent may be rung for somebody who has left.
async function tellEnded(id) {
  for (const pause of RETRY_MS) {
    try {
      return await post(`/api/contacts/${id}/end`, {}, { keepalive: true });
    } catch (error) {
      if (!(error instanceof ApiError && error.passing)) return null;
    }
    await new Promise((resume) => setTimeout(resume, pause));
  }
  return null;
}

function finish() {
  letGo();
  recording.show(null);
  chat.close();
  view.trouble(null);
  view.show("ended", contact);
  feedback.ask(contact);
  view.status(farewell(contact));
  view.open();
}

// Our call ends, and the contact does not.
function hangUpQuietly() {
  const ending = call;
  call = null;
  ending?.hangup();
  returnMedia();
}

function letGo() {
  live?.close();
  live = null;
  pausing = false;
  view.composing("");
  waiting.ring(false);
  writing.over();
  hangUpQuietly();
  releaseTab?.();
}

// Another browser of theirs has called the contact, and has the call now. To call back would take it from there.
function goneElsewhere() {
  letGo();
  contact = null;
  recording.show(null);
  view.show("choosing");
  view.status("");
  view.trouble("Your call goes on in another browser of yours.", [["Take it over here", resumeAgain]]);
}

async function rate(helped, comment) {
  const { id } = contact;
  try {
    await feedback.send(id, helped, comment, () => contact?.id === id);
    if (contact?.id === id) view.trouble(null);
  } catch (error) {
    if (contact?.id === id) view.trouble(words(error), [wayOut(error) ?? ["Try again", () => rate(helped, comment)]]);
  }
}

function done() {
  contact = null;
  view.trouble(null);
  view.status("");
  view.show("idle");
  view.close();
}

// After a reload, or in a browser that came back: the contact is still there.

async function resume() {
  let found;
  try {
    found = await get("/api/contacts/current");
  } catch {
    return;
  }
  if (!found || contact || found.state === "ended") return;
  // A call is for one tab; a chat may be open in several.
  if (isMedia(found.channel) && !(await tabIsFree(found.id))) {
    if (view.isOpen()) view.trouble(words(new Elsewhere()));
    return;
  }
  view.open();
  if (!needsCall(found)) return begin(found);
  try {
    await borrowMedia(found.channel);
    begin(found);
  } catch (error) {
    view.show("choosing");
    view.trouble(`Your ${found.channel} call is still open. ${words(error)}`, [
      ["Go on with the call", resumeAgain],
      ["End it", () => tellEnded(found.id).then(openSheetAgain)],
    ]);
  }
}

function resumeAgain() {
  view.trouble(null);
  resume();
}

const lockName = (id) => `warmline-contact-${id}`;

async function tabIsFree(id) {
  if (!navigator.locks) return true;
  return !(await navigator.locks.query()).held.some((lock) => lock.name === lockName(id));
}

function holdTab() {
  navigator.locks?.request(lockName(contact.id), () => new Promise((resolve) => (releaseTab = resolve)));
}

function words(error) {
  if (error instanceof ApiError || error instanceof NoMedia || error instanceof Elsewhere) return error.message;
  return "Something went wrong in this page. Please try again.";
}

// Buttons.

byId("help-button").addEventListener("click", () => (view.isOpen() ? closeSheet() : openSheet()));
byId("help-close").addEventListener("click", closeSheet);
byId("help-hangup").addEventListener("click", leave);
byId("help-done").addEventListener("click", done);
byId("help-mute").addEventListener("click", (event) => press(event, "audio", "Mute", "Muted"));
byId("help-video").addEventListener("click", () => video.press());
byId("help-camera").addEventListener("click", (event) => press(event, "video", "Camera off", "Camera is off"));
feedback.listen({ answered: rate });
recording.listen({ allow: allowRecording });
waiting.listen({
  callBack: (way) => instead("call-back", { way }),
  stay: () => instead("call-back/cancel", {}, contact.channel),
  move: (channel) => instead("channel", { channel }, isMedia(channel) ? channel : null),
  answer,
  notNow,
});

function press(event, kind, on, off) {
  const isOff = call?.toggle(kind) ?? false;
  view.pressed(event.currentTarget, isOff, isOff ? off : on);
}

document.addEventListener("click", (event) => {
  const at = (selector) => event.target.closest?.(selector);
  if (at("[data-help-open]")) openSheet();
  const channel = at("#help [data-channel]")?.dataset.channel;
  if (channel) choose(channel);
  const product = at("[data-help-product]")?.dataset.helpProduct;
  if (product) {
    chosenProduct = product;
    loadChoices();
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && view.isOpen()) closeSheet();
});

byId("chat-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const input = byId("chat-input");
  const text = input.value.trim();
  if (!text || !isOpenContact()) return;
  chat.say(text);
  writing.over();
  input.value = "";
  input.style.height = "";
  input.focus();
});

byId("chat-input").addEventListener("keydown", (event) => {
  // An Enter that ends the composing of a Japanese or Chinese word is not yet the end of the line.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("chat-form").requestSubmit();
});

byId("chat-input").addEventListener("input", (event) => {
  event.target.style.height = "";
  event.target.style.height = `${Math.min(event.target.scrollHeight, 140)}px`;
  if (contact?.state === "connected") writing.typed(contact.id, event.target.value);
});

document.addEventListener("visibilitychange", () => chat.look());
window.addEventListener("pagehide", () => writing.stopped());

setInterval(() => {
  const idle = view.isOpen() && !contact && view.dock.dataset.busy === undefined;
  if (idle && byId("help-trouble").hidden && document.visibilityState === "visible") loadChoices();
}, REFRESH_CHOICES_MS);

// Reading on to another product's page changes what help there is.
document.addEventListener("htmx:afterSettle", () => {
  if (view.isOpen() && !contact) loadChoices();
});

resume();
