// The lines of a chat: each of ours is kept, tried again until the server has stored it, and shown as it stands.

import { ApiError, post } from "./api.js";

const RETRY_MS = [1000, 2000, 4000, 8000];
// What may become of a line that is stored, in its order: news that come late take nothing back.
const MARKS = ["sent", "delivered", "read"];

export class Chat {
  constructor(log, { agentName, inSight }) {
    this.log = log;
    this.agentName = agentName;
    this.inSight = inSight; // whether the customer can see the lines now
    this.unseen = null; // the last line of the agent that the server does not know to be shown
    this.contact = null;
    this.known = new Map(); // id of the server -> line
    this.outbox = []; // lines of ours the server has not acknowledged, in the order typed
    this.sending = false;
  }

  open(contactId) {
    if (this.contact === contactId) return;
    this.contact = contactId;
    this.known.clear();
    this.log.replaceChildren();
    this.outbox = [];
    this.unseen = null;
    for (const { key, text } of this.#kept()) this.#queue(key, text);
    this.#send();
  }

  close() {
    for (const line of this.outbox) this.#mark(line, "failed", "not sent");
    this.outbox = [];
    if (this.contact) sessionStorage.removeItem(this.#place());
    this.contact = null;
  }

  say(text) {
    this.#queue(newKey(), text);
    this.#keep();
    this.#send();
  }

  // A line as the server has it: from us, the agent or the house.
  heard(message) {
    if (this.known.has(message.id)) return this.#marks(message);
    if (message.from === "customer") {
      const ours = this.outbox.find((line) => line.key === message.key);
      if (ours) this.#stored(ours, message.id);
    }
    if (!this.known.has(message.id)) {
      const line = this.#show(message.from, message.text, message.at, { stored: true });
      line.id = message.id;
      this.known.set(message.id, line);
      if (message.from === "customer") this.marked(message.id, "sent");
      if (message.from === "agent" && !message.read) this.unseen = message.id;
    }
    this.#marks(message);
    this.look();
  }

  // What became of a line of ours: the agent's phone has it ("delivered"), the agent has seen it ("read").
  marked(id, mark) {
    const line = this.known.get(id);
    if (line?.element.dataset.from !== "customer") return;
    if (MARKS.indexOf(mark) > MARKS.indexOf(line.element.dataset.delivery)) this.#mark(line, mark, mark);
  }

  // The customer sees the chat now: whoever wrote in it may know.
  async look() {
    const id = this.unseen;
    if (!id || !this.contact || !this.inSight()) return;
    this.unseen = null;
    try {
      await post(`/api/contacts/${this.contact}/seen`, { message: id });
    } catch (error) {
      if (error instanceof ApiError && error.passing) this.unseen ??= id;
    }
  }

  #marks(message) {
    if (message.delivered) this.marked(message.id, "delivered");
    if (message.read) this.marked(message.id, "read");
  }

  #queue(key, text) {
    const line = this.#show("customer", text, null, { stored: false });
    line.key = key;
    this.#mark(line, "pending", "sending");
    this.outbox.push(line);
  }

  async #send() {
    if (this.sending) return;
    this.sending = true;
    const contact = this.contact;
    for (let tries = 0; this.outbox.length && this.contact === contact; ) {
      const line = this.outbox[0];
      try {
        const { id } = await post(`/api/contacts/${contact}/messages`, { key: line.key, text: line.text });
        this.#stored(line, id);
        tries = 0;
      } catch (error) {
        if (error instanceof ApiError && error.passing) {
          this.#mark(line, "pending", "trying again");
          await new Promise((resume) => setTimeout(resume, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]));
        } else {
          this.#mark(line, "failed", `not sent: ${error.message}`);
          this.#leave(line);
        }
      }
    }
    this.sending = false;
    if (this.outbox.length) this.#send();
  }

  #stored(line, id) {
    this.#leave(line);
    if (line.id) return;
    line.id = id;
    const twin = this.known.get(id);
    // The live stream was quicker than the answer to our post, and has shown it already.
    if (twin && twin !== line) return line.element.remove();
    this.known.set(id, line);
    this.marked(id, "sent");
  }

  #leave(line) {
    this.outbox = this.outbox.filter((other) => other !== line);
    this.#keep();
  }

  #show(from, text, at, { stored }) {
    const element = document.createElement("li");
    element.dataset.from = from;
    const words = document.createElement("p");
    words.textContent = text;
    words.dir = "auto";
    const foot = document.createElement("small");
    const who = from === "agent" ? this.agentName() : from === "customer" ? "You" : "";
    const moment = at === null || at === undefined ? new Date() : new Date(typeof at === "number" ? at * 1000 : at);
    const time = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    foot.textContent = from === "system" ? time : `${who} · ${time}`;
    const state = document.createElement("span");
    foot.append(state);
    element.append(words, foot);
    const atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 60;
    // Lines not yet stored stay below those that are, which is how the server will have them.
    this.log.insertBefore(element, stored ? (this.outbox[0]?.element ?? null) : null);
    if (atEnd || from === "customer") this.log.scrollTop = this.log.scrollHeight;
    return { element, state, text, id: null, key: null };
  }

  #mark(line, state, words) {
    line.element.dataset.delivery = state;
    line.state.textContent = ` · ${words}`;
  }

  #place() {
    return `warmline-outbox-${this.contact}`;
  }

  #keep() {
    if (!this.contact) return;
    const waiting = this.outbox.map(({ key, text }) => ({ key, text }));
    try {
      if (waiting.length) sessionStorage.setItem(this.#place(), JSON.stringify(waiting));
      else sessionStorage.removeItem(this.#place());
    } catch {
      // Without storage a reload loses what was not yet sent; while the page lives, nothing does.
    }
  }

  #kept() {
    try {
      return JSON.parse(sessionStorage.getItem(this.#place()) ?? "[]");
    } catch {
      return [];
    }
  }
}

// crypto.randomUUID is missing over plain http, where chat must still work.
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
