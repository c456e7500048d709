// Whom a contact may go to: looked up as the agent types, each with what may be done.
(() => {
  "use strict";

  const WAIT_MS = 200;

  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  const button = (text, found, action) => {
    const made = element("button", { type: "submit", className: "button", name: "to", value: found.to, textContent: text });
    made.setAttribute("aria-label", `${text}: ${found.name}`);
    made.setAttribute("formaction", action);
    made.formNoValidate = true; // the button says to whom, whatever is in the field
    return made;
  };

  const row = (found, form, canAsk) => {
    const may = found.free || found.to.startsWith("skill:"); // who is busy cannot be rung; a skill is waited for
    const asks = canAsk && may && found.ask ? [button("Ask first", found, form.action.replace(/transfer$/, "consult"))] : [];
    const does = may ? [element("div", { className: "candidate-do" }, ...asks, button("Pass on", found, form.action))] : [];
    return element(
      "li",
      { className: may ? "candidate" : "candidate not-free" },
      element("p", { className: "candidate-name", textContent: found.name }),
      element("p", { className: "quiet", textContent: found.note }),
      ...does,
    );
  };

  const latest = new WeakMap(); // by form: what was asked last, so that a slow answer to what was asked before is dropped

  const look = async (form) => {
    const text = form.querySelector("input[type=search]").value;
    const asked = {};
    latest.set(form, asked);
    let found;
    try {
      const answer = await fetch(`${form.dataset.candidates}?${new URLSearchParams({ q: text })}`, {
        headers: { Accept: "application/json" },
      });
      if (!answer.ok) return;
      found = await answer.json();
    } catch {
      return; // the field and its own buttons still work
    }
    if (latest.get(form) !== asked || !form.isConnected) return;
    const canAsk = Boolean(form.querySelector(".without-list [formaction]"));
    const list = form.querySelector(".candidates");
    list.replaceChildren(...found.map((each) => row(each, form, canAsk)));
    if (!found.length) list.append(element("li", { className: "quiet", textContent: "Nobody of that name, and no such skill or number." }));
    form.querySelector(".without-list").hidden = true;
  };

  const timers = new WeakMap();
  document.addEventListener("input", ({ target }) => {
    const form = target.closest?.("form[data-candidates]");
    if (!form) return;
    clearTimeout(timers.get(form));
    timers.set(form, setTimeout(look, WAIT_MS, form));
  });
  // "toggle" does not bubble.
  document.addEventListener("toggle", ({ target }) => {
    const form = target.open && target.querySelector?.("form[data-candidates]");
    if (!form) return;
    look(form);
    form.querySelector("input[type=search]").focus({ preventScroll: true });
  }, true);
  // Enter alone picks nobody: who is meant is pressed.
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.matches("form[data-candidates] input[type=search]")) event.preventDefault();
  });
})();
