// Whether the call is recorded, and the customer's word in it. It knows the elements and nothing of the server.

import { keepFocus } from "./dock.js";
import { recordingWords } from "./words.js";

const byId = (id) => document.getElementById(id);

// acts: {allow(whether)}
export function listen(acts) {
  byId("recording-yes").addEventListener("click", () => acts.allow(true));
  byId("recording-no").addEventListener("click", () => acts.allow(false));
}

export function show(contact) {
  const told = contact?.state === "ended" ? null : contact?.recording;
  const words = recordingWords(told);
  const element = byId("help-recording");
  element.hidden = !words;
  element.dataset.recording = told?.state ?? "";
  if (byId("recording-words").textContent !== words) byId("recording-words").textContent = words;
  const mayRefuse = ["on", "recording", "paused", "silent"].includes(told?.state) || (told?.state === "asked" && told.mode === "announce");
  const asked = told?.state === "asked" && told.mode === "ask";
  const refused = told?.state === "refused";
  byId("recording-yes").hidden = !told?.may_choose || !(asked || refused);
  byId("recording-yes").textContent = asked ? "Yes" : told?.kept ? "Record again" : "Allow recording";
  byId("recording-no").hidden = !told?.may_choose || !(asked || mayRefuse);
  byId("recording-no").textContent = asked ? "No" : told?.state === "recording" ? "Stop recording" : "Don’t record";
  keepFocus();
}
