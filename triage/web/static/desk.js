// Keyboard, live lists and countdowns. Every page works without this file; the server's HTML is the truth.
"use strict";

const body = document.body;
const page = body.dataset.page;
const live = document.getElementById("live");
let chosen = null; // the entry id under the cursor, kept while lists are replaced
let skew = 0; // server's clock minus ours, ms

// --- time ---

function spoken(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

function readClock() {
  const stamped = document.querySelector("[data-now]");
  if (stamped) skew = Date.parse(stamped.dataset.now) - Date.now();
}

function tick() {
  const now = Date.now() + skew;
  for (const time of document.querySelectorAll("time[data-due]")) {
    const left = Date.parse(time.dateTime) - now;
    time.textContent = left <= 0 ? `${spoken(-left)} late` : `in ${spoken(left)}`;
    time.classList.toggle("late", left <= 0);
  }
  for (const time of document.querySelectorAll("time[data-since]")) {
    time.textContent = spoken(Math.max(0, now - Date.parse(time.dateTime)));
  }
}

// --- lists ---

const rows = () => [...document.querySelectorAll(".row")];

function choose(row, scroll) {
  for (const other of rows()) other.removeAttribute("aria-selected");
  chosen = row ? row.dataset.entry : null;
  if (!row) return;
  row.setAttribute("aria-selected", "true");
  if (scroll) row.scrollIntoView({ block: "nearest" });
}

const chosenRow = () => rows().find((row) => row.dataset.entry === chosen) || null;

function move(step) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(chosenRow());
  choose(all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + step))], true);
}

let fetching = false;
let again = false;

async function refresh() {
  const lists = document.getElementById("lists");
  if (!lists) return refreshStamp();
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  try {
    const answer = await fetch(`/fragments/worklist?offset=${body.dataset.offset || 0}`);
    if (answer.status === 401) return void location.assign("/signin");
    if (!answer.ok) throw new Error(String(answer.status));
    const known = new Set(rows().map((row) => row.dataset.entry));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("lists");
    const busy = lists.contains(document.activeElement) && document.activeElement.closest("form");
    const focused = busy ? busy.getAttribute("action") : null;
    lists.replaceWith(fresh);
    for (const row of rows()) if (!known.has(row.dataset.entry)) row.classList.add("fresh");
    choose(chosenRow(), false);
    if (focused) fresh.querySelector(`form[action="${CSS.escape(focused)}"] button`)?.focus();
    readClock();
    tick();
  } catch {
    say("lost", "not live: the service does not answer");
  } finally {
    fetching = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

async function refreshStamp() {
  if (page !== "study") return;
  const answer = await fetch(`/studies/${body.dataset.entry}/stamp`).catch(() => null);
  if (!answer || !answer.ok) return;
  const { stamp } = await answer.json();
  if (stamp !== body.dataset.stamp) document.getElementById("changed").hidden = false;
}

// --- live push: an event says only that something changed, and the lists are fetched anew ---

let stream = null;

function say(state, words) {
  if (live) [live.dataset.live, live.textContent] = [state, words];
}

function listen() {
  if (stream || document.hidden || !live || !["worklist", "study"].includes(page)) return;
  stream = new EventSource("/events");
  stream.addEventListener("changed", () => {
    say("on", "live");
    refresh(); // the first one too: something may have happened since the page was drawn
  });
  stream.onerror = () => {
    say("lost", "reconnecting");
    if (stream.readyState === EventSource.CLOSED) {
      stream = null;
      setTimeout(listen, 5000);
      refresh();
    }
  };
}

function quiet() {
  if (stream) stream.close(); // a browser allows six connections to one host: a hidden tab gives its one back
  stream = null;
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return quiet();
  refresh();
  listen();
});
window.addEventListener("pagehide", quiet);
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // never an old list out of the browser's memory
});

// --- keyboard and pointer ---

const submit = (button) => button && !button.disabled && button.form.requestSubmit(button);
const toggle = (id) => {
  const box = document.getElementById(id);
  if (box && !box.disabled) box.checked = !box.checked;
};
const inChosen = (selector) => (page === "study" ? document : chosenRow())?.querySelector(selector);

const keys = {
  n: () => {
    const next = document.getElementById("next");
    if (next) return submit(next);
    const form = Object.assign(document.createElement("form"), { method: "post", action: "/next", hidden: true });
    body.append(form);
    form.submit();
  },
  j: () => move(1),
  k: () => move(-1),
  Enter: () => chosen && location.assign(`/studies/${chosen}`),
  c: () => submit(inChosen("[data-claim]")),
  r: () => {
    if (page !== "study") return submit(inChosen("[data-release]"));
    const report = document.querySelector(".report");
    if (report) (report.querySelector("input:checked") || report.querySelector("input")).focus();
  },
  l: () => toggle("show-contour"),
  a: () => toggle("show-activation"),
  w: () => location.assign("/"),
  "/": () => document.getElementById("search")?.focus(),
  "?": () => document.getElementById("help")?.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat === true && !"jk".includes(event.key)) return;
  const at = event.target;
  if (event.key === "Escape" && at.matches("input, select")) return at.blur();
  if (at.matches("input:not([type=radio]):not([type=checkbox]), select, textarea") || at.closest("dialog")) return;
  if (event.key === "Enter" && at.matches("a, button, input, summary")) return;
  const act = keys[event.key];
  if (!act || !document.getElementById("help")) return;
  event.preventDefault();
  act();
});

document.addEventListener("click", (event) => {
  const row = event.target.closest(".row");
  if (row && !event.target.closest("a, button")) choose(row, false);
});
document.addEventListener("dblclick", (event) => {
  const row = event.target.closest(".row");
  if (row && !event.target.closest("a, button")) location.assign(`/studies/${row.dataset.entry}`);
});

readClock();
tick();
setInterval(tick, 1000);
if (page === "worklist") setInterval(() => document.hidden || refresh(), 30000); // sentences speak of minutes
listen();
