// Ages tick, and states follow from them. Thresholds come from the server with each state, so both judge alike.
import { durationText, momentText } from "./values.js";

let offset = 0; // server's clock minus ours, ms
let known = false;

/** Each heartbeat was under way for some time; the largest difference seen is the one that was least delayed. */
export function learnServerTime(ms) {
  const seen = ms - Date.now();
  // A laptop that slept, or a clock that was set: start over.
  offset = known && Math.abs(seen - offset) < 5000 ? Math.max(offset, seen) : seen;
  known = true;
}
export const serverNow = () => Date.now() + offset;

export function setAge(element, ms) {
  if (element.tagName !== "TIME") {
    const time = document.createElement("time");
    time.dataset.age = "";
    element.replaceWith(time);
    element = time;
  }
  const before = Date.parse(element.dateTime) || 0;
  if (ms < before) return;
  element.dateTime = new Date(ms).toISOString();
  element.title = momentText(ms);
  write(element);
}

function write(element) {
  const text = durationText((serverNow() - Date.parse(element.dateTime)) / 1000);
  if (element.textContent !== text) element.textContent = text;
}

const STATES = { ok: "Reporting", late: "Late", silent: "Silent", never: "Never heard" };

function judge(element, age) {
  const quiet = (serverNow() - Date.parse(age.dateTime)) / 1000;
  const state = quiet > +element.dataset.silentAfter ? "silent" : quiet > +element.dataset.lateAfter ? "late" : "ok";
  if (element.classList.contains(state)) return false;
  element.className = `st ${state}`;
  element.querySelector("use").setAttribute("href", `#d-${state}`);
  element.querySelector("span").textContent = STATES[state];
  return true;
}

export function tick() {
  let changed = false;
  for (const age of document.querySelectorAll("time[data-age]")) {
    if (!age.title) age.title = momentText(Date.parse(age.dateTime));
    write(age);
  }
  for (const state of document.querySelectorAll("[data-state]")) {
    const age = (state.closest("tr") ?? state.parentElement).querySelector("time[data-age]");
    if (age && judge(state, age)) changed = true;
  }
  if (changed) document.dispatchEvent(new CustomEvent("states-changed"));
}
setInterval(tick, 1000);
tick();
