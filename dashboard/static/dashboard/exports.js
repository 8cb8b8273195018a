// The page of exports: the form that orders one, and the list that shows how far each is.
import { isUnfinished, show } from "./export_rows.js";
import { NamePicker } from "./name_picker.js";
import { getJson, postJson } from "./telemetry_api.js";

const JOBS = "/api/v1/telemetry/export/jobs";
const BUSY_MS = 1000; // between looks while something is being made
const QUIET_MS = 30_000;

const form = document.getElementById("export");
const list = document.getElementById("list");
const announce = document.getElementById("announce");
const field = (id) => document.getElementById(id);

// --- the form ---------------------------------------------------------------------------------------

const devices = new NamePicker(field("devices"));
const metrics = new NamePicker(field("metrics"), (question) => {
  for (const name of devices.names) question.append("device", name);
});
for (const picker of [devices, metrics]) picker.addEventListener("changed", () => clearFault(picker.box.closest(".field")));

form.addEventListener("change", () => {
  field("own").hidden = chosen("range") !== "own";
  field("interval").disabled = !field("aggregation").value;
});
{
  const local = (ms) => new Date(ms - new Date(ms).getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  field("from").value = local(Date.now() - 86_400_000);
  field("to").value = local(Date.now());
}

const chosen = (name) => form.querySelector(`[name=${name}]:checked`).value;

function times() {
  const range = chosen("range");
  if (range !== "own") {
    const now = Date.now();
    return [new Date(now - range * 1000).toISOString(), new Date(now).toISOString()];
  }
  return [field("from"), field("to")].map((input) => (input.value ? new Date(input.value).toISOString() : null));
}

function asked() {
  const [start, end] = times();
  const body = { device_ids: devices.names, metric_names: metrics.names, start_time: start, end_time: end, format: chosen("format") };
  const aggregation = field("aggregation").value;
  if (!aggregation) return body;
  const interval = field("interval").value;
  return { ...body, aggregation, interval: interval ? Number(interval) : null, timezone: Intl.DateTimeFormat().resolvedOptions().timeZone };
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  devices.take();
  metrics.take();
  for (const one of form.querySelectorAll(".field")) clearFault(one);
  field("export-fault").hidden = true;
  const missing = [];
  if (!devices.names.length) missing.push({ field: "device_ids", detail: "Choose at least one device" });
  if (!metrics.names.length) missing.push({ field: "metric_names", detail: "Choose at least one metric" });
  const [start, end] = times();
  if (!start || !end) missing.push({ field: "start_time", detail: "Give both a beginning and an end" });
  else if (start >= end) missing.push({ field: "start_time", detail: "The beginning must be before the end" });
  if (missing.length) return tell(missing, "");
  const button = form.querySelector("[type=submit]");
  button.disabled = true;
  try {
    await postJson(JOBS, asked());
    announce.textContent = "The export is ordered";
    await look();
  } catch (error) {
    tell(error.errors ?? [], error.status ? error.message : "The server cannot be reached. Nothing was ordered; try again.");
  } finally {
    button.disabled = false;
  }
});

function tell(errors, rest) {
  const homeless = [];
  let first = null;
  for (const error of errors) {
    const place = [...form.querySelectorAll("[data-field]")].find((one) => one.dataset.field.split(" ").includes(error.field));
    if (!place) homeless.push(`${error.field}: ${error.detail}`);
    else {
      place.classList.add("bad");
      const fault = place.querySelector(".fault");
      fault.textContent = error.detail;
      fault.hidden = false;
      first ??= place.querySelector(".own:not([hidden]) input, .names input, select");
    }
  }
  if (homeless.length || !errors.length) {
    field("export-fault").textContent = homeless.join("; ") || rest;
    field("export-fault").hidden = false;
  }
  first?.focus();
}

function clearFault(place) {
  place.classList.remove("bad");
  place.querySelector(".fault").hidden = true;
}

// --- the list ---------------------------------------------------------------------------------------

const rows = new Map(); // id to <tr>
const known = new Map(); // id to what was last said of it
let waiting = null;
let next = null;

/** Newest first; older ones are added below and stay. */
async function look(cursor = null) {
  clearTimeout(waiting);
  try {
    const page = await getJson(`${JOBS}?own=true&limit=20${cursor ? `&cursor=${cursor}` : ""}`);
    if (cursor || !rows.size) next = page.next_cursor;
    if (!cursor) forgetExpired(page.jobs);
    place(page.jobs, cursor !== null);
    field("list-fault").hidden = true;
  } catch (error) {
    const text = `The list cannot be refreshed: ${error.status ? error.message : "the server cannot be reached"}. Exports go on being made.`;
    field("list-fault").querySelector("span").textContent = text;
    field("list-fault").hidden = false;
  }
  list.hidden = !rows.size;
  field("none").hidden = rows.size > 0 || !field("list-fault").hidden;
  field("older").hidden = !next;
  const busy = [...known.values()].some(isUnfinished) || !field("list-fault").hidden;
  waiting = setTimeout(look, busy ? BUSY_MS : QUIET_MS);
}

function place(jobs, below) {
  let before = below ? null : list.tBodies[0].firstElementChild;
  for (const job of jobs) {
    let row = rows.get(job.id);
    if (!row) {
      row = document.getElementById("export-row").content.firstElementChild.cloneNode(true);
      row.querySelector("button").addEventListener("click", () => cancel(job.id));
      rows.set(job.id, row);
      list.tBodies[0].insertBefore(row, before);
    } else if (row === before) before = row.nextElementSibling;
    const was = known.get(job.id);
    known.set(job.id, job);
    show(row, job);
    if (was && isUnfinished(was) && !isUnfinished(job)) announce.textContent = `${row.querySelector(".what").textContent}: ${row.querySelector(".st").textContent}`;
  }
}

/** What is gone on the server goes here too; not what only stands on an older page. */
function forgetExpired(jobs) {
  const here = new Set(jobs.map((job) => job.id));
  const last = jobs.length < 20 ? "" : jobs[jobs.length - 1].created_at;
  for (const [id, job] of known) {
    if (here.has(id) || job.created_at < last) continue;
    rows.get(id).remove();
    rows.delete(id);
    known.delete(id);
  }
}

async function cancel(id) {
  try {
    await postJson(`${JOBS}/${id}/cancel`, {});
  } catch (error) {
    if (error.status !== 409) { // 409: it was finished a moment before
      field("list-fault").querySelector("span").textContent = `Not cancelled: ${error.message}`;
      field("list-fault").hidden = false;
      return;
    }
  }
  await look();
}

field("older").querySelector("button").addEventListener("click", () => look(next));
document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
look();
