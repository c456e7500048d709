// Another empty row when the last skill is typed; what was typed is not lost without a question.
"use strict";

const entry = document.getElementById("entry-form");
if (entry) {
  const rows = entry.querySelector(".skill-rows");
  for (const empty of [...rows.querySelectorAll(".new")].slice(1)) empty.remove();
  const every = entry.querySelector('[name="serves"][value="all"]');
  const some = entry.querySelector('[name="serves"][value="some"]');
  let dirty = false;
  entry.addEventListener("input", (event) => {
    dirty = true;
    if (every && event.target.name === "provider" && event.target.checked) some.checked = true;
    const row = event.target.closest(".skill-row");
    if (!row || row.nextElementSibling || !event.target.value || event.target.tagName !== "INPUT") return;
    const next = row.cloneNode(true);
    const number = rows.children.length;
    next.querySelector("input").name = `skill-${number}`;
    next.querySelector("input").value = "";
    next.querySelector("select").name = `level-${number}`;
    next.querySelector("select").value = "3";
    row.after(next);
  });
  entry.addEventListener("submit", () => { dirty = false; });
  addEventListener("beforeunload", (event) => { if (dirty) event.preventDefault(); });
}
