// The inbox: selecting rows, actions, keyboard shortcuts and updates. Rows stay in place until newer ones are asked for.
import { announce } from "../announce.js";
import { readPart, replaceParts } from "../parts.js";
import { refresher, refreshNow } from "../refresh.js";
import { getJson } from "../telemetry_api.js";
import { followAlerts } from "./events.js";
import { drawSparklines, followSparklines } from "./sparklines.js";
import "./unacknowledged.js";

const RESULT_MS = 8000; // how long the result of an action is shown

const inbox = document.getElementById("inbox");
const bulk = document.getElementById("bulk");
const newer = () => document.getElementById("newer"); // replaced with the rows
const boxes = () => [...inbox.querySelectorAll(".box")];
const rowOf = (element) => element?.closest?.("[data-alert]");
const MAX_UPDATED = 200; // alerts of one request for updates

/** Return the IDs of the rows in view: children only of opened incidents. */
function shownIds() {
  const rows = [...inbox.querySelectorAll("[data-alert]")].filter((row) => !row.matches("details:not([open]) .child"));
  return rows.slice(0, MAX_UPDATED).map((row) => row.dataset.alert);
}

for (const select of document.querySelectorAll("#filters select")) select.addEventListener("change", () => select.form.requestSubmit());

// --- selecting ---------------------------------------------------------------------------------------

function showSelection() {
  if (!bulk) return;
  const selected = boxes().filter((box) => box.checked);
  for (const box of boxes()) rowOf(box).classList.toggle("sel", box.checked);
  document.getElementById("selected-count").textContent = `${selected.length} selected`;
  bulk.toggleAttribute("data-empty", !selected.length);
}

function toggle(row) {
  const box = row?.querySelector(".box");
  if (!box) return;
  box.checked = !box.checked;
  showSelection();
}

// --- actions ------------------------------------------------------------------------------------------

async function send(body) {
  const headers = { Accept: "application/json" };
  const response = await fetch(bulk.action, { method: "POST", body, headers, credentials: "same-origin" }).catch(() => null);
  if (!response?.ok || response.redirected) {
    const reason = !response ? "the server cannot be reached" : response.redirected ? "you are signed out" : `HTTP ${response.status}`;
    return showResult(`Nothing changed: ${reason}. Try again.`);
  }
  const { changed, message } = await response.json();
  for (const [alertId, alert] of Object.entries(changed)) show(alertId, alert);
  if (Object.keys(changed).length) bulk.reset(); // which also clears the selection
  showResult(message);
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

let resultTimer;
function showResult(text) {
  const result = document.getElementById("result");
  result.textContent = text;
  result.hidden = false;
  clearTimeout(resultTimer);
  resultTimer = setTimeout(() => { result.hidden = true; }, RESULT_MS);
}

// --- rows -------------------------------------------------------------------------------------------

/** Show the status, the owner and the silence of an alert in its row. */
function show(alertId, { status, owner, silenced, incident_open: incidentOpen }) {
  const row = inbox.querySelector(`[data-alert="${CSS.escape(alertId)}"]`);
  if (!row) return;
  showSilence(row.querySelector(".silenced"), status === "resolved" ? "" : silenced);
  if (row.dataset.status === status && (row.dataset.owner ?? owner) === owner) return;
  const resolved = status === "resolved";
  row.dataset.status = status;
  row.dataset.owner = owner;
  row.classList.toggle("alone", status === "active");
  row.classList.toggle("done", resolved && !incidentOpen);
  const sign = row.querySelector(".lv");
  sign.classList.toggle("owned", status === "acknowledged");
  sign.classList.toggle("gone", resolved);
  if (resolved) {
    sign.querySelector("use").setAttribute("href", "#l-resolved");
    row.querySelector(".word").textContent = "Resolved";
  }
  const text = Object.assign(document.createElement("span"), { textContent: resolved ? "just now" : owner || "Unassigned" });
  row.querySelector(".whose").replaceChildren(...(owner && !resolved ? [face(owner)] : []), text);
}

function showSilence(element, text) {
  element.hidden = !text;
  if (text) element.querySelector("span").textContent = text;
}

function face(owner) {
  const element = Object.assign(document.createElement("span"), { className: "face s", textContent: owner.slice(0, 2).toUpperCase() });
  element.setAttribute("aria-hidden", "true");
  return element;
}

// --- updates -------------------------------------------------------------------------------------------

async function readUpdates() {
  const shown = shownIds();
  const query = new URLSearchParams(inbox.dataset.query);
  query.set("since", inbox.dataset.newest);
  query.set("shown", shown.join(","));
  showUpdates(await getJson(`${inbox.dataset.updatesUrl}?${query}`), shown);
}

function showUpdates(updates, shown) {
  for (const [alertId, alert] of Object.entries(updates.alerts)) show(alertId, alert);
  // An alert that does not exist any more (its device was deleted) is shown as resolved.
  for (const alertId of shown) if (!(alertId in updates.alerts)) show(alertId, { status: "resolved", owner: "", silenced: "", incident_open: false });
  document.getElementById("open-counts").textContent = updates.counts;
  const button = newer();
  const count = updates.newer === 1 ? "1 newer alert" : `${updates.newer} newer alerts`;
  const text = updates.newer ? `${count}: ${updates.newest}` : "";
  if (updates.newer && text !== button.querySelector("span").textContent) announce(text);
  button.hidden = !updates.newer;
  button.querySelector("span").textContent = text;
  // Without rows, nothing can move under a hand.
  if (updates.newer && !inbox.querySelector(".arow")) showNewer();
}

/** Show the newer alerts in their places; the selection, opened incidents and the focus stay. */
const showNewer = () => refreshNow(async () => {
  replaceParts(await readPart(), ["#inbox"]);
  showSelection();
  await drawSparklines(inbox);
});

followAlerts(refresher(readUpdates));
inbox.addEventListener("click", (event) => { if (event.target.closest("#newer")) showNewer(); });
followSparklines(inbox);

// --- keys -------------------------------------------------------------------------------------------

const note = document.getElementById("note");
const KEYS = {
  x: toggle,
  a: (row) => act("acknowledge", row),
  r: (row) => act("resolve", row),
  m: (row) => act("assign", row),
  n: (row) => {
    if (boxes().some((box) => box.checked)) return note.focus();
    if (!row?.querySelector(".box")) return;
    toggle(row);
    note.focus();
  },
};

document.addEventListener("page-key", ({ detail: event }) => {
  if (event.key === "." && !newer().hidden) return showNewer();
  const verb = bulk && KEYS[event.key];
  if (!verb) return;
  event.preventDefault();
  verb(rowOf(document.activeElement));
});

if (bulk) {
  inbox.addEventListener("change", showSelection);
  bulk.addEventListener("reset", () => setTimeout(showSelection));
  bulk.addEventListener("submit", (event) => {
    event.preventDefault();
    send(new FormData(bulk, event.submitter));
  });
  showSelection();
}
