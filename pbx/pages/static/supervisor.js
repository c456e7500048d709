// What goes on now is fetched again while it is looked at; a table of rules grows a row when its last one is used.
"use strict";

const EVERY_MS = 2000;
const MOST_KEPT = 3;

const now = document.getElementById("now");
if (now) {
  let shown = "";
  let busy = false;
  let kept = 0;
  const sameAgain = (element) =>
    element.id ? `#${CSS.escape(element.id)}` : element.href ? `a[href="${CSS.escape(element.getAttribute("href"))}"]` : "";
  const look = async () => {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch(now.dataset.again, { credentials: "same-origin" });
      if (answer.status === 401 || answer.status === 404) {
        location.reload();
        return;
      }
      const html = answer.ok ? await answer.text() : shown;
      // Whoever is about to press something keeps it under their finger, but not for ever: a call that is over is told.
      const about = now.querySelector("a:hover, button:hover, summary:hover");
      if (html !== shown && (!about || ++kept > MOST_KEPT)) {
        kept = 0;
        shown = html;
        const held = now.contains(document.activeElement) ? sameAgain(document.activeElement) : "";
        now.innerHTML = html;
        if (held) now.querySelector(held)?.focus({ preventScroll: true });
      }
    } catch {
      // The next look may find the server again.
    } finally {
      busy = false;
    }
  };
  setInterval(look, EVERY_MS);
  document.addEventListener("visibilitychange", look);
}

const form = document.getElementById("rules-form");
if (form) {
  // On a phone a rule is as high as a hand: what is not looked for stays folded until it is.
  const narrow = matchMedia("(max-width: 699px)").matches;
  const looks = new URLSearchParams(location.search).get("q");
  if (narrow && !looks && !document.querySelector(".faults")) {
    for (const group of form.querySelectorAll(".rule-group")) group.open = false;
  }
  let dirty = false;
  form.addEventListener("input", (event) => {
    dirty = true;
    const row = event.target.closest("tr.new");
    if (!row || row.nextElementSibling || !event.target.value) return;
    const next = row.cloneNode(true);
    const number = form.querySelectorAll("tr.new").length;
    for (const field of next.querySelectorAll("[name]")) {
      field.name = field.name.replace(/-n\d+$/, `-n${number}`);
      if (/^(value|skill)-/.test(field.name)) field.value = "";
      if (field.type === "checkbox") field.checked = false;
    }
    row.after(next);
  });
  form.addEventListener("submit", () => { dirty = false; });
  addEventListener("beforeunload", (event) => { if (dirty) event.preventDefault(); });
}
