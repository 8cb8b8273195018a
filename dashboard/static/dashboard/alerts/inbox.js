// The inbox: choosing rows, verbs by key, and news. Rows stay where they are until the page is asked for anew.
import { announce } from "../live.js";
import { getJson } from "../telemetry_api.js";
import { drawCourses } from "./courses.js";
import "./times.js";
import { showWaiting } from "./waiting.js";

const NEWS_MS = 5000;
const SAID_MS = 8000;

const inbox = document.getElementById("inbox");
const bulk = document.getElementById("bulk");
const newer = document.getElementById("newer");
const boxes = () => [...inbox.querySelectorAll(".box")];
const rowOf = (element) => element?.closest?.(".arow[data-alert]");

for (const select of document.querySelectorAll("#filters select")) select.addEventListener("change", () => select.form.requestSubmit());

// --- choosing ---------------------------------------------------------------------------------------

function showChosen() {
  const chosen = boxes().filter((box) => box.checked);
  for (const box of boxes()) rowOf(box).classList.toggle("sel", box.checked);
  document.getElementById("chosen").textContent = `${chosen.length} selected`;
  bulk.toggleAttribute("data-empty", !chosen.length);
}

function choose(row) {
  const box = row?.querySelector(".box");
  if (!box) return;
  box.checked = !box.checked;
  showChosen();
}

// --- verbs ------------------------------------------------------------------------------------------

async function send(body) {
  const answer = await fetch(bulk.action, { method: "POST", body, headers: { Accept: "application/json" }, credentials: "same-origin" }).catch(() => null);
  if (!answer?.ok || answer.redirected) return say(`Nothing was changed: ${answer ? `the server answered ${answer.status}` : "the server cannot be reached"}. Try again.`);
  const { moved, said } = await answer.json();
  for (const one of moved) show(one.alert_id, one);
  if (moved.length) {
    bulk.reset(); // which also takes the choice away
  }
  say(said);
  look();
}

function act(verb, row) {
  if (!bulk) return;
  const body = new FormData(bulk);
  body.set("verb", verb);
  if (!body.has("alert")) {
    const box = row?.querySelector(".box");
    if (!box) return;
    body.set("alert", box.value);
  }
  send(body);
}

let silence;
function say(text) {
  const said = document.getElementById("said");
  said.textContent = text;
  said.hidden = false;
  clearTimeout(silence);
  silence = setTimeout(() => { said.hidden = true; }, SAID_MS);
}

// --- rows -------------------------------------------------------------------------------------------

/** What became of an alert, in its row: who has it, or that it is over. */
function show(alertId, { status, owner }) {
  const row = inbox.querySelector(`[data-alert="${CSS.escape(alertId)}"]`);
  if (!row || (row.dataset.status === status && (row.dataset.owner ?? owner) === owner)) return;
  const over = status === "resolved";
  row.dataset.status = status;
  row.dataset.owner = owner;
  row.classList.toggle("alone", status === "active");
  row.classList.toggle("done", over);
  const sign = row.querySelector(".lv");
  sign.classList.toggle("owned", status === "acknowledged");
  sign.classList.toggle("gone", over);
  if (over) {
    sign.querySelector("use").setAttribute("href", "#l-resolved");
    row.querySelector(".word").textContent = "Resolved";
  }
  const text = Object.assign(document.createElement("span"), { textContent: over ? "just now" : owner || "nobody" });
  row.querySelector(".whose").replaceChildren(...(owner && !over ? [face(owner)] : []), text);
}

function face(owner) {
  const made = Object.assign(document.createElement("span"), { className: "face s", textContent: owner.slice(0, 2).toUpperCase() });
  made.setAttribute("aria-hidden", "true");
  return made;
}

// --- news -------------------------------------------------------------------------------------------

let waiting;
async function look() {
  clearTimeout(waiting);
  if (!document.hidden) {
    const shown = [...inbox.querySelectorAll(".arow[data-alert]")].map((row) => row.dataset.alert);
    const query = new URLSearchParams(inbox.dataset.query);
    query.set("since", inbox.dataset.newest);
    query.set("shown", shown.join(","));
    const told = await getJson(`${inbox.dataset.news}?${query}`).catch(() => null);
    if (told) tell(told, shown);
  }
  clearTimeout(waiting);
  waiting = setTimeout(look, NEWS_MS);
}

function tell(told, shown) {
  showWaiting(told.waiting);
  for (const [alertId, known] of Object.entries(told.alerts)) show(alertId, known);
  // An alert that is gone (its device was deleted) is over too.
  for (const alertId of shown) if (!(alertId in told.alerts)) show(alertId, { status: "resolved", owner: "" });
  const words = told.newer === 1 ? "1 newer alert" : `${told.newer} newer alerts`;
  if (told.newer && newer.hidden) announce(words);
  newer.hidden = !told.newer;
  newer.querySelector("span").textContent = `${words}. Show ${told.newer === 1 ? "it" : "them"}`;
}

newer.addEventListener("click", () => location.reload());
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
waiting = setTimeout(look, NEWS_MS);
drawCourses(inbox);

// --- keys -------------------------------------------------------------------------------------------

const note = document.getElementById("note");
const KEYS = {
  x: choose,
  a: (row) => act("acknowledge", row),
  r: (row) => act("resolve", row),
  m: (row) => act("assign", row),
  n: (row) => {
    if (boxes().some((box) => box.checked)) return note.focus();
    if (!row?.querySelector(".box")) return;
    choose(row);
    note.focus();
  },
};

document.addEventListener("page-key", ({ detail: event }) => {
  if (event.key === "." && !newer.hidden) return location.reload();
  const verb = bulk && KEYS[event.key];
  if (!verb) return;
  event.preventDefault();
  verb(rowOf(document.activeElement));
});

if (bulk) {
  inbox.addEventListener("change", showChosen);
  bulk.addEventListener("reset", () => setTimeout(showChosen));
  bulk.addEventListener("submit", (event) => {
    event.preventDefault();
    send(new FormData(bulk, event.submitter));
  });
  showChosen();
}
