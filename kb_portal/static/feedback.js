// Did it help? The question at the end of a contact, and the answer.

import { post } from "./api.js";
import { keepFocus } from "./dock.js";

const byId = (id) => document.getElementById(id);

// Asked of whoever had somebody to talk to: who has left the queue was not helped by anybody.
export function ask(contact) {
  for (const id of ["feedback-more", "feedback-thanks"]) byId(id).hidden = true;
  for (const id of ["feedback-yes", "feedback-no"]) byId(id).setAttribute("aria-pressed", "false");
  byId("feedback-comment").value = "";
  for (const id of ["feedback-question", "feedback-answers"]) byId(id).hidden = !contact.agent;
}

// acts: {answered(helped, comment), done()}
export function listen(acts) {
  byId("feedback-yes").addEventListener("click", () => acts.answered(true));
  byId("feedback-no").addEventListener("click", () => acts.answered(false));
  byId("feedback-more").addEventListener("submit", (event) => {
    event.preventDefault();
    const comment = byId("feedback-comment").value.trim();
    if (!comment) return acts.done();
    acts.answered(byId("feedback-yes").getAttribute("aria-pressed") === "true", comment);
  });
}

// Throws ApiError. `stillShown` says whether the answer is of any use to the page when it comes.
export async function send(id, helped, comment, stillShown) {
  byId("feedback-yes").setAttribute("aria-pressed", String(helped));
  byId("feedback-no").setAttribute("aria-pressed", String(!helped));
  await post(`/api/contacts/${id}/feedback`, comment ? { helped, comment } : { helped });
  if (!stillShown()) return;
  byId("feedback-more").hidden = Boolean(comment);
  byId("feedback-thanks").hidden = !comment;
  keepFocus();
}
