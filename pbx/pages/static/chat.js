// Signs in the agent's chats: who is writing, what became of a line, and that the customer's lines were seen here.
(() => {
  "use strict";

  const SAY_EVERY_MS = 10000;
  const STOPPED_AFTER_MS = 15000; // RFC 3994 s3.2

  const csrf = document.querySelector("meta[name=csrf]")?.content || "";
  const card = (contact) => document.querySelector(`[data-contact="${CSS.escape(contact)}"]`);
  const cardOf = (element) => element.closest("[data-contact]")?.dataset.contact;

  // Nobody misses a sign that is lost.
  const post = async (contact, what, fields) => {
    try {
      const answer = await fetch(`/agent/contacts/${contact}/${what}`, {
        method: "POST",
        body: new URLSearchParams(fields),
        headers: { Accept: "application/json", "X-CSRF-Token": csrf },
        keepalive: true,
      });
      return answer.status < 500;
    } catch {
      return false;
    }
  };

  // --- the customer writes, and what became of lines

  const composing = (contact, words) => {
    const place = card(contact)?.querySelector(".composing");
    if (place && place.textContent !== words) place.textContent = words;
  };
  document.addEventListener("live-composing", ({ detail }) => composing(detail.contact, detail.words));
  // What is true now is told again when the stream is back.
  document.addEventListener("live-silence", () => {
    for (const place of document.querySelectorAll(".composing")) place.textContent = "";
  });
  document.addEventListener("live-mark", ({ detail }) => {
    const place = card(detail.contact)?.querySelector(`[data-message="${CSS.escape(detail.id)}"] .line-mark`);
    if (place) place.textContent = detail.words;
  });

  // --- the agent writes here

  const saidAt = new Map(); // by contact, while the server believes that we write there
  const timers = new Map();

  const over = (contact) => {
    clearTimeout(timers.get(contact));
    saidAt.delete(contact);
  };
  const stopped = (contact) => {
    if (saidAt.has(contact)) post(contact, "composing", { active: "no" });
    over(contact);
  };
  document.addEventListener("input", ({ target }) => {
    if (!target.matches(".compose textarea")) return;
    const contact = cardOf(target);
    if (!target.value.trim()) { stopped(contact); return; }
    clearTimeout(timers.get(contact));
    timers.set(contact, setTimeout(() => stopped(contact), STOPPED_AFTER_MS));
    if (Date.now() - (saidAt.get(contact) ?? -Infinity) < SAY_EVERY_MS) return;
    saidAt.set(contact, Date.now());
    post(contact, "composing", { active: "yes" });
  });
  // The line itself says that writing it is over.
  document.addEventListener("submit", ({ target }) => { if (target.matches("form.compose")) over(cardOf(target)); });
  window.addEventListener("pagehide", () => { for (const contact of [...saidAt.keys()]) stopped(contact); });

  // --- the agent has seen

  const seen = new Map(); // by contact, the last line the server was told of
  const look = () => {
    if (document.visibilityState !== "visible") return;
    for (const log of document.querySelectorAll("[data-part=log]")) {
      const line = [...log.querySelectorAll(".line.customer")].pop();
      const contact = cardOf(log);
      const id = line?.dataset.message;
      const joined = card(contact)?.querySelector("[data-part=head]")?.dataset.state === "connected";
      if (!id || !joined || seen.get(contact) === id) continue;
      const box = line.getBoundingClientRect();
      if (box.bottom <= 0 || box.top >= window.innerHeight) continue;
      seen.set(contact, id);
      post(contact, "seen", { message: id }).then((heard) => { if (!heard && seen.get(contact) === id) seen.delete(contact); });
    }
  };
  document.addEventListener("live-lines", look);
  document.addEventListener("visibilitychange", look);
  document.addEventListener("scroll", look, { capture: true, passive: true });
  look();
})();
