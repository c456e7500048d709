// Did it help? The question at the end of a contact, and the answer.

import { post } from "./api.js";
import { keepFocus } from "./dock.js";
import { asksWhetherItHelped } from "./words.js";

const byId = (id) => document.getElementById(id);

export function ask(contact) {
  for (const id of ["feedback-more", "feedback-thanks"]) byId(id).hidden = true;
  for (const id of ["feedback-yes", "feedback-no"]) byId(id).setAttribute("aria-pressed", "false");
  byId("feedback-comment").value = "";
  for (const id of ["feedback-question", "feedback-answers"]) byId(id).hidden = !asksWhetherItHelped(contact);
}

// It stands there until they close it: a later word would replace the first, so nothing more is asked.
function thank() {
  for (const id of ["feedback-question", "feedback-answers", "feedback-more"]) byId(id).hidden = true;
  byId("feedback-thanks").hidden = false;
}

export const isThanked = () => !byId("feedback-thanks").hidden;

// acts: {answered(helped, comment)}
export function listen(acts) {
  byId("feedback-yes").addEventListener("click", () => acts.answered(true));
  byId("feedback-no").addEventListener("click", () => acts.answered(false));
  byId("feedback-more").addEventListener("submit", (event) => {
    event.preventDefault();
    const comment = byId("feedback-comment").value.trim();
    acts.answered(byId("feedback-yes").getAttribute("aria-pressed") === "true", comment);
  });
}

// Throws ApiError. `comment`: they have pressed Send, be it empty. `stillShown` says whether the answer is of any use to the page when it comes.
export async function send(id, helped, comment, stillShown) {
  byId("feedback-yes").setAttribute("aria-pressed", String(helped));
  byId("feedback-no").setAttribute("aria-pressed", String(!helped));
  await post(`/api/contacts/${id}/feedback`, comment ? { helped, comment } : { helped });
  if (!stillShown()) return;
  if (comment !== undefined) thank();
  else byId("feedback-more").hidden = false;
  keepFocus();
}
