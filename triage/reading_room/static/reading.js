// Window, zoom and keys. The pages work without this file, but for window and zoom; the server's HTML is the truth.
"use strict";

const $ = (id) => document.getElementById(id);
for (const element of document.querySelectorAll(".scripted")) element.hidden = false;

// --- window, level, zoom: a linear filter on the grey values and a transform of the plate ---

const stage = $("stage");
const WHOLE = { center: 0.5, width: 1, inverted: false, zoom: 1, x: 0, y: 0 };
const kept = () => JSON.parse(sessionStorage.getItem("view") || "{}");
let view = { ...WHOLE };

const within = (low, value, high) => Math.min(high, Math.max(low, value));

function show() {
  const { center, width, inverted, zoom, x, y } = view;
  const low = center - width / 2;
  const [slope, intercept] = inverted ? [-1 / width, 1 + low / width] : [1 / width, -low / width];
  for (const channel of stage.querySelectorAll("feFuncR, feFuncG, feFuncB")) {
    channel.setAttribute("slope", slope);
    channel.setAttribute("intercept", intercept);
  }
  stage.querySelector(".radiograph").style.filter = slope === 1 && intercept === 0 ? "" : "url(#grey)";
  $("plate").style.transform = `translate(${x}px, ${y}px) scale(${zoom})`;
  $("window").textContent = `Window ${Math.round(width * 100)} · level ${Math.round(center * 100)} · ${Math.round(zoom * 100)} %`;
  stage.parentElement.querySelector("[data-do=invert]").setAttribute("aria-pressed", inverted);
  sessionStorage.setItem("view", JSON.stringify({ token: stage.dataset.token, view })); // the page comes anew when recorded
}

function change(to) {
  Object.assign(view, to);
  view.width = within(0.02, view.width, 2);
  view.center = within(-0.5, view.center, 1.5);
  show();
}

function zoom(factor, atX = stage.clientWidth / 2, atY = stage.clientHeight / 2) {
  const to = within(1, view.zoom * factor, 12);
  const real = to / view.zoom; // what is under the pointer stays there
  pan(atX - (atX - view.x) * real, atY - (atY - view.y) * real, to);
}

function pan(x, y, to = view.zoom) {
  change({ zoom: to, x: within(stage.clientWidth * (1 - to), x, 0), y: within(stage.clientHeight * (1 - to), y, 0) });
}

const acts = {
  invert: () => change({ inverted: !view.inverted }),
  larger: () => zoom(1.25),
  smaller: () => zoom(0.8),
  reset: () => change({ ...WHOLE }),
};

if (stage) {
  stage.classList.add("live");
  if (kept().token === stage.dataset.token) view = kept().view;
  show();
  stage.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15, event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!stage.hasPointerCapture(event.pointerId)) return;
    if (event.shiftKey || event.buttons & 4) return pan(view.x + event.movementX, view.y + event.movementY);
    change({ width: view.width + event.movementX / 400, center: view.center + event.movementY / 400 });
  });
  stage.addEventListener("dblclick", () => change({ zoom: 1, x: 0, y: 0 }));
  for (const button of document.querySelectorAll("[data-do]")) button.addEventListener("click", acts[button.dataset.do]);
}

// --- the answer: each slider and its number are one; a slider nobody moved says nothing ---

const answer = $("answer");
const scores = answer ? [...answer.querySelectorAll(".score")] : [];
const sliderOf = (score) => answer.querySelector(`[data-for="${score.id}"]`);

function compare() {
  const chosen = answer.querySelector("input[name=response]:checked");
  const highest = scores.reduce((a, b) => (Number(b.value) > Number(a.value) ? b : a));
  const own = chosen && $(`score-${chosen.value}`);
  const differs = own && scores.every((score) => score.value !== "") && Number(highest.value) > Number(own.value);
  const name = (score) => answer.querySelector(`label[for="${score.id}"]`).textContent;
  $("differs").hidden = !differs;
  if (differs) $("differs").textContent = `Class ${name(own)}, highest confidence ${name(highest)}.`;
}

for (const score of scores) {
  const slider = sliderOf(score);
  const follow = () => {
    slider.classList.toggle("untouched", score.value === "");
    slider.value = score.value || 0;
    compare();
  };
  score.addEventListener("input", follow);
  score.addEventListener("focus", () => score.select());
  score.addEventListener("wheel", (event) => event.preventDefault(), { passive: false }); // no change by accident
  slider.addEventListener("input", () => {
    score.value = slider.value;
    follow();
  });
  follow();
}
if (answer) answer.addEventListener("change", compare);

function choose(key) {
  const radio = answer.querySelector(`[data-key="${key}"]`);
  radio.checked = true;
  compare();
  const empty = scores.find((score) => score.value === "");
  (empty || scores[0]).focus();
}

function enter(event) {
  const at = scores.indexOf(event.target);
  const empty = scores.slice(at + 1).concat(scores.slice(0, at)).find((score) => score.value === "");
  if (event.target.value === "" || !empty) return; // the browser says what is missing, or sends the form
  event.preventDefault();
  empty.focus();
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.repeat) return event.preventDefault(); // a key held down opens no case
  if (event.ctrlKey || event.metaKey || event.altKey || !stage) return;
  if (scores.includes(event.target)) {
    if (event.key === "Enter") enter(event);
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const step = event.shiftKey ? 40 : 0.02;
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (arrows && !event.target.matches("input")) {
    event.preventDefault();
    const [x, y] = arrows.map((one) => one * step);
    return event.shiftKey ? pan(view.x - x, view.y - y) : change({ width: view.width + x, center: view.center + y });
  }
  const keys = {
    1: () => choose(1), 2: () => choose(2), 3: () => choose(3),
    i: acts.invert, r: acts.reset, "+": acts.larger, "-": acts.smaller,
    n: () => $("next")?.click(),
    o: () => $("show-overlay")?.click(),
    p: () => document.querySelector("form[action='/pause'] button").click(),
  };
  if (event.key === "Enter" && event.target === document.body) return $("next")?.click();
  const act = keys[event.key.toLowerCase()];
  if (!act) return;
  event.preventDefault();
  act();
});

window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // never an old case out of the browser's memory
});
