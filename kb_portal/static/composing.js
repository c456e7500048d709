// That the customer is writing: said to the server while it is so, every 10 s, and taken back when they stop.

import { post } from "./api.js";

const SAY_EVERY_MS = 10000;
const STOPPED_AFTER_MS = 15000; // RFC 3994 s3.2

export class Writing {
  constructor() {
    this.contact = null; // whose chat the server believes we write in
    this.saidAt = 0;
    this.timer = null;
  }

  // Something was typed; an empty field is no writing.
  typed(contactId, text) {
    if (!text.trim()) return this.stopped();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.stopped(), STOPPED_AFTER_MS);
    if (this.contact === contactId && Date.now() - this.saidAt < SAY_EVERY_MS) return;
    this.contact = contactId;
    this.saidAt = Date.now();
    this.#say(true);
  }

  stopped() {
    if (this.contact) this.#say(false);
    this.over();
  }

  // The line was sent, which says by itself that writing it is over.
  over() {
    clearTimeout(this.timer);
    this.contact = null;
  }

  // Nobody misses it when it is lost.
  #say(active) {
    post(`/api/contacts/${this.contact}/composing`, { active }, { keepalive: true }).catch(() => {});
  }
}
