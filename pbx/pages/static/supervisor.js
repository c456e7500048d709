// What goes on now is fetched again while it is looked at; a table of rules grows a row when its last one is used.
"use strict";

const EVERY_MS = 2000;

const now = document.getElementById("now");
if (now) {
  let shown = "";
  let busy = false;
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
      // Whoever is about to press a link keeps it under their finger.
      if (html !== shown && !now.contains(document.activeElement)) {
        shown = html;
        now.innerHTML = html;
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
