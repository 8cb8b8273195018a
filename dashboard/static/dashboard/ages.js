// Counts ages up and derives device states from them; the server sends the limits with each state.
import { durationText, momentText } from "./number_format.js";

let offset = 0; // the server's clock minus the browser's, in ms
let hasOffset = false;

/** Learn the offset from a server time. Messages are delayed, so the largest difference is the most exact. */
export function learnServerTime(ms) {
  const difference = ms - Date.now();
  // After a sleep or a clock change, start again.
  offset = hasOffset && Math.abs(difference - offset) < 5000 ? Math.max(offset, difference) : difference;
  hasOffset = true;
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

const STATES = { ok: "Online", late: "Late", offline: "Offline", never: "No data yet" };

function updateState(element, age) {
  const seconds = (serverNow() - Date.parse(age.dateTime)) / 1000;
  const state = seconds > +element.dataset.offlineAfter ? "offline" : seconds > +element.dataset.lateAfter ? "late" : "ok";
  if (element.classList.contains(state)) return false;
  element.className = `st ${state}`;
  element.querySelector("use").setAttribute("href", `#d-${state}`);
  element.querySelector("span").textContent = STATES[state];
  return true;
}

export function tick() {
  // What happened since the page is stale is not known, so nothing grows older.
  if (document.body.classList.contains("stale")) return;
  let changed = false;
  for (const age of document.querySelectorAll("time[data-age]")) {
    if (!age.title) age.title = momentText(Date.parse(age.dateTime));
    write(age);
  }
  for (const state of document.querySelectorAll("[data-state]")) {
    const age = (state.closest("tr") ?? state.parentElement).querySelector("time[data-age]");
    if (age && updateState(state, age)) changed = true;
  }
  if (changed) document.dispatchEvent(new CustomEvent("states-changed"));
}
setInterval(tick, 1000);
tick();
