// The overview's sentence on what is open, asked for anew every few seconds: words are made in one place, the server.
import { tick } from "../ages.js";
import { announce } from "../live.js";
import { showWaiting } from "./waiting.js";

const EVERY_MS = 5000;
const alarm = document.getElementById("alarm");

async function look() {
  const answer = document.hidden ? null : await fetch(alarm.dataset.part, { credentials: "same-origin" }).catch(() => null);
  if (answer?.ok && !answer.redirected) show(await answer.text(), answer.headers.get("X-Waiting"));
  setTimeout(look, EVERY_MS);
}

let before = alarm.querySelector("h2")?.textContent;
function show(html, waiting) {
  showWaiting(waiting);
  const made = new DOMParser().parseFromString(html, "text/html").body;
  const said = made.querySelector("h2")?.textContent;
  // A link under the reader's finger or focus stays where it is.
  if (said === before && alarm.querySelector("p")?.textContent === made.querySelector("p")?.textContent) return;
  if (alarm.matches(":focus-within")) return;
  alarm.replaceChildren(...made.childNodes);
  if (said && said !== before) announce(said);
  before = said;
  tick();
}

setTimeout(look, EVERY_MS);
