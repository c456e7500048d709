// The agent's page: follows /agent/live, sends forms without leaving the page, and keeps times current.
(() => {
  "use strict";

  const csrf = document.querySelector("meta[name=csrf]")?.content || "";
  const live = document.getElementById("live");
  const trouble = document.getElementById("trouble");
  const plainTitle = document.title;

  // --- times -----------------------------------------------------------------------------------------------------

  const lengthWords = (seconds) => {
    const whole = Math.max(0, Math.floor(seconds));
    if (whole < 100) return `${whole} s`;
    if (whole < 3600) return `${Math.floor(whole / 60)} min`;
    if (whole < 86400) {
      const minutes = Math.floor((whole % 3600) / 60);
      return `${Math.floor(whole / 3600)} h${minutes ? ` ${minutes} min` : ""}`;
    }
    return whole < 172800 ? "1 day" : `${Math.floor(whole / 86400)} days`;
  };

  const showTimes = (root) => {
    for (const element of root.querySelectorAll("[data-since]")) {
      if (element.textContent) element.textContent = `for ${lengthWords(Date.now() / 1000 - Number(element.dataset.since))}`;
    }
    for (const element of root.querySelectorAll("time[datetime]:not([data-local])")) {
      element.dataset.local = "yes";
      const moment = new Date(element.dateTime);
      if (!Number.isNaN(moment.getTime())) element.textContent = moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
    }
  };
  showTimes(document);
  setInterval(() => showTimes(document), 1000);

  // --- copying a password ----------------------------------------------------------------------------------------

  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) continue; // only where the connection is secure
    button.hidden = false;
    button.addEventListener("click", async () => {
      const copied = navigator.clipboard.writeText(document.querySelector(button.dataset.copy).textContent);
      button.textContent = await copied.then(() => "Copied", () => "Please copy it by hand");
    });
  }

  if (!live) return;

  // --- forms -----------------------------------------------------------------------------------------------------

  const complain = (words) => {
    trouble.textContent = words;
    trouble.hidden = !words;
    if (words) trouble.scrollIntoView({ block: "nearest" });
  };

  const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, "0")).join("");

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("form[data-quiet]")) return;
    event.preventDefault();
    const button = event.submitter;
    if (form.dataset.twice && !form.dataset.asked) {
      form.dataset.asked = button.textContent;
      button.textContent = form.dataset.twice;
      setTimeout(() => {
        if (!form.dataset.asked) return;
        button.textContent = form.dataset.asked;
        delete form.dataset.asked;
      }, 4000);
      return;
    }
    const body = new URLSearchParams(new FormData(form));
    if (button?.name) body.set(button.name, button.value);
    if (form.dataset.busy) return;
    form.dataset.busy = "yes";
    try {
      const answer = await fetch(button?.hasAttribute("formaction") ? button.formAction : form.action, {
        method: "POST",
        body,
        headers: { Accept: "application/json", "X-CSRF-Token": csrf },
        redirect: "error",
        signal: AbortSignal.timeout?.(15000),
      });
      if (answer.status === 401) { location.assign("/agent/login"); return; }
      const said = await answer.json().catch(() => ({}));
      if (!answer.ok) { complain(said.error || "That did not work. Please try again."); return; }
      complain("");
      if ("clear" in form.dataset) {
        form.reset();
        form.elements.key.value = newKey();
        grow(form.elements.text);
        form.elements.text.focus();
      }
    } catch {
      complain("The server could not be reached, so this may not have been done. Please try again.");
    } finally {
      delete form.dataset.busy;
    }
  });

  const grow = (area) => {
    area.style.height = "auto";
    area.style.height = `${Math.min(area.scrollHeight + 2, 160)}px`;
  };
  document.addEventListener("input", (event) => { if (event.target.matches(".compose textarea")) grow(event.target); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target.matches(".compose textarea")) {
      event.preventDefault();
      if (event.target.value.trim()) event.target.form.requestSubmit();
    }
  });

  // --- what happens ----------------------------------------------------------------------------------------------

  const parsed = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html;
    return holder.content;
  };

  // Replacing what somebody has their finger or keyboard on must not take it from them.
  const keepingFocus = (change) => {
    const id = document.activeElement?.id;
    change();
    if (id && document.activeElement?.id !== id) document.getElementById(id)?.focus({ preventScroll: true });
  };

  const toTheEnd = (log) => { log.scrollTop = log.scrollHeight; };

  const addLines = (log, lines) => {
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    for (const line of lines) {
      const known = log.querySelector(`[data-message="${CSS.escape(line.dataset.message)}"]`);
      if (known) known.querySelector(".line-mark").textContent = line.querySelector(".line-mark").textContent;
      else log.append(line);
    }
    showTimes(log);
    if (atEnd) toTheEnd(log);
  };

  // A card that is there stays there, with the chat as far as it was read and the answer as far as it was typed.
  const mergeContacts = (fresh) => {
    const panel = document.getElementById("panel-contacts");
    const wanted = [...fresh.children];
    const names = new Set(wanted.map((card) => card.dataset.contact));
    for (const card of [...panel.children]) if (!names.has(card.dataset.contact)) card.remove();
    for (const card of wanted) {
      const known = panel.querySelector(`[data-contact="${CSS.escape(card.dataset.contact)}"]`);
      if (!known || card.dataset.contact === "none") {
        known?.remove();
        panel.append(card);
        const log = card.querySelector("[data-part=log]");
        if (log) toTheEnd(log);
        continue;
      }
      for (const part of card.querySelectorAll("[data-part]")) {
        const old = known.querySelector(`[data-part=${part.dataset.part}]`);
        if (!old) { known.append(part); continue; }
        if (part.dataset.part === "log") { addLines(old, [...part.children]); continue; }
        // What is being looked for or written down there stays, while it is still about the same.
        if (part.dataset.keep !== undefined && part.dataset.keep === old.dataset.keep) continue;
        if (part.dataset.part === "compose" && Boolean(old.querySelector("form")) === Boolean(part.querySelector("form"))) continue;
        old.replaceWith(part);
      }
    }
  };

  // A message that is being listened to is not cut off by the next one that comes.
  const mergeMessages = (fresh) => {
    const panel = document.getElementById("panel-messages");
    for (const item of fresh.querySelectorAll("[data-message-left]")) {
      const known = panel.querySelector(`[data-message-left="${CSS.escape(item.dataset.messageLeft)}"]`);
      if (known) item.replaceWith(known);
    }
    panel.replaceChildren(fresh);
  };

  const showTitle = () => {
    const state = document.querySelector("#panel-state [data-state]")?.dataset.state;
    document.title = state === "reserved" ? `☎ Ringing · ${plainTitle}` : plainTitle;
  };

  const onPanel = ({ name, html }) => keepingFocus(() => {
    const fresh = parsed(html);
    if (name === "contacts") mergeContacts(fresh);
    else if (name === "messages") mergeMessages(fresh);
    else document.getElementById(`panel-${name}`)?.replaceChildren(fresh);
    showTimes(document);
    showTitle();
    tell("lines");
  });

  const onMessage = ({ contact, html }) => {
    const log = document.querySelector(`[data-contact="${CSS.escape(contact)}"] [data-part=log]`);
    if (log) addLines(log, [...parsed(html).children]);
    tell("lines");
  };

  // Signs of writing and reading are chat.js's.
  const tell = (name, detail) => document.dispatchEvent(new CustomEvent(`live-${name}`, { detail }));

  // --- staying connected -----------------------------------------------------------------------------------------

  const showLive = (state, words) => {
    live.dataset.live = state;
    live.querySelector(".live-words").textContent = words;
  };

  let wait = 1000;
  let source = null;
  let again = null;

  const stillLoggedIn = async () => {
    try {
      return (await fetch("/agent/live", { method: "HEAD" })).status !== 401;
    } catch {
      return true; // not reached, so not known
    }
  };

  const follow = () => {
    clearTimeout(again);
    source?.close();
    source = new EventSource("/agent/live");
    source.addEventListener("open", () => { wait = 1000; showLive("on", "Live"); });
    source.addEventListener("panel", (event) => onPanel(JSON.parse(event.data)));
    source.addEventListener("message", (event) => { if (event.data) onMessage(JSON.parse(event.data)); });
    for (const name of ["mark", "composing"]) source.addEventListener(name, (event) => tell(name, JSON.parse(event.data)));
    source.addEventListener("error", async () => {
      showLive("off", "Reconnecting");
      tell("silence");
      if (source.readyState !== EventSource.CLOSED) return; // the browser tries by itself
      if (!(await stillLoggedIn())) { location.assign("/agent/login"); return; }
      clearTimeout(again);
      again = setTimeout(follow, wait);
      wait = Math.min(wait * 2, 30000);
    });
  };

  for (const log of document.querySelectorAll("[data-part=log]")) toTheEnd(log);
  showTitle();
  follow();
  // A phone that slept, or found its network again, does not wait for the next try.
  const wake = () => { if (document.visibilityState === "visible" && live.dataset.live !== "on") follow(); };
  document.addEventListener("visibilitychange", wake);
  window.addEventListener("online", wake);
  // In a tunnel the stream does not break, it only falls silent: what is shown is no longer live.
  window.addEventListener("offline", () => showLive("off", "Reconnecting"));
  window.addEventListener("pagehide", () => source?.close());
  window.addEventListener("pageshow", (event) => { if (event.persisted) follow(); });
})();
