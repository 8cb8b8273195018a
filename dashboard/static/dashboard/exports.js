// The page of exports: the form, and the list with the progress of each export.
import { isUnfinished, show } from "./export_rows.js";
import { NamePicker } from "./name_picker.js";
import { refresher, refreshNow } from "./refresh.js";
import { subscribeChannels } from "./stream/stream.js";
import { getJson, postJson } from "./telemetry_api.js";
import { fromWallClock, wallClock, zone } from "./time_zone.js";

const PAGE_SIZE = 20;
const REDRAW_MS = 30_000; // of how long the files are kept
const MAX_TIMER_MS = 2 ** 31 - 1;

const form = document.getElementById("export");
const { jobsUrl } = form.dataset;
const list = document.getElementById("list");
const announce = document.getElementById("announce");
const field = (id) => document.getElementById(id);

// --- the form ---------------------------------------------------------------------------------------

const devices = new NamePicker(field("devices"));
const metrics = new NamePicker(field("metrics"), (query) => {
  for (const name of devices.names) query.append("device", name);
});
for (const picker of [devices, metrics]) picker.addEventListener("changed", () => clearFault(picker.box.closest(".field")));
form.addEventListener("draft-restoring", ({ detail }) => {
  for (const [picker, names] of [[devices, detail.device_ids], [metrics, detail.metric_names]]) for (const name of names ?? []) picker.add(name);
});

form.addEventListener("change", () => {
  field("own").hidden = chosen("range") !== "own";
  field("interval").disabled = !field("aggregation").value;
  field("dialect").disabled = chosen("format") !== "csv";
});
{
  const local = (ms) => wallClock(ms).toISOString().slice(0, 16);
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
  return [field("from"), field("to")].map((input) => (input.value ? new Date(fromWallClock(input.value)).toISOString() : null));
}

const DIALECTS = { excel: { bom: true }, "excel-semicolon": { bom: true, delimiter: ";", decimal: "," } };

function jobOf() {
  const [start, end] = times();
  const format = chosen("format");
  const dialect = format === "csv" ? DIALECTS[field("dialect").value] : {};
  const body = { device_ids: devices.names, metric_names: metrics.names, start_time: start, end_time: end, format, ...dialect };
  const aggregation = field("aggregation").value;
  if (!aggregation) return body;
  const interval = field("interval").value;
  return { ...body, aggregation, interval: interval ? Number(interval) : null, timezone: zone };
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
  if (!start || !end) missing.push({ field: "start_time", detail: "Enter a start and an end" });
  else if (start >= end) missing.push({ field: "start_time", detail: "The start must be before the end" });
  if (missing.length) return showErrors(missing, "");
  const button = form.querySelector("[type=submit]");
  button.disabled = true;
  try {
    await postJson(jobsUrl, jobOf());
    announce.textContent = "Export queued";
    form.dispatchEvent(new Event("saved"));
    refresh();
  } catch (error) {
    showErrors(error.errors ?? [], error.status ? error.message : "The server cannot be reached. No export was created; try again.");
  } finally {
    button.disabled = false;
  }
});

function showErrors(errors, message) {
  const unplaced = [];
  let first = null;
  for (const error of errors) {
    const element = [...form.querySelectorAll("[data-field]")].find((one) => one.dataset.field.split(" ").includes(error.field));
    if (!element) unplaced.push(`${error.field}: ${error.detail}`);
    else {
      element.classList.add("bad");
      const fault = element.querySelector(".fault");
      fault.textContent = error.detail;
      fault.hidden = false;
      first ??= element.querySelector(".own:not([hidden]) input, .names input, select");
    }
  }
  if (unplaced.length || !errors.length) {
    field("export-fault").textContent = unplaced.join("; ") || message;
    field("export-fault").hidden = false;
  }
  first?.focus();
}

function clearFault(element) {
  element.classList.remove("bad");
  element.querySelector(".fault").hidden = true;
}

// --- the list ---------------------------------------------------------------------------------------

const rows = new Map(); // id to <tr>
const jobsById = new Map();
let expiryTimer = null;
let nextCursor = null;

/** Load the newest exports, or with a cursor the older ones, which are added below. */
async function load(cursor = null) {
  const page = await getJson(`${jobsUrl}?own=true&limit=${PAGE_SIZE}${cursor ? `&cursor=${cursor}` : ""}`);
  if (cursor || !rows.size) nextCursor = page.next_cursor;
  if (!cursor) removeExpired(page.jobs);
  showJobs(page.jobs, cursor !== null);
  field("list-fault").hidden = true;
  list.hidden = !rows.size;
  field("none").hidden = rows.size > 0;
  field("older").hidden = !nextCursor;
  refreshAtExpiry();
}

const refresh = refresher(() => load());

/** Load the list again when the server deletes the next file. */
function refreshAtExpiry() {
  clearTimeout(expiryTimer);
  const next = Math.min(...[...jobsById.values()].map((job) => Date.parse(job.expires_at)).filter((ms) => ms > Date.now()));
  if (next < Infinity) expiryTimer = setTimeout(refresh, Math.min(MAX_TIMER_MS, next - Date.now() + 1000));
}

function showJobs(jobs, below) {
  let before = below ? null : list.tBodies[0].firstElementChild;
  for (const job of jobs) {
    let row = rows.get(job.id);
    if (!row) {
      row = document.getElementById("export-row").content.firstElementChild.cloneNode(true);
      row.querySelector("button").addEventListener("click", () => cancel(job.id));
      rows.set(job.id, row);
      list.tBodies[0].insertBefore(row, before);
    } else if (row === before) before = row.nextElementSibling;
    const previous = jobsById.get(job.id);
    jobsById.set(job.id, job);
    show(row, job, jobsUrl);
    if (previous && isUnfinished(previous) && !isUnfinished(job)) {
      announce.textContent = `${row.querySelector(".what").textContent}: ${row.querySelector(".st").textContent}`;
    }
  }
}

/** Remove the rows of exports that the server deleted, but not those of older pages. */
function removeExpired(jobs) {
  const listed = new Set(jobs.map((job) => job.id));
  const last = jobs.length < PAGE_SIZE ? "" : jobs[jobs.length - 1].created_at;
  for (const [id, job] of jobsById) {
    if (listed.has(id) || job.created_at < last) continue;
    rows.get(id).remove();
    rows.delete(id);
    jobsById.delete(id);
  }
}

async function cancel(id) {
  try {
    await postJson(`${jobsUrl}/${id}/cancel`, {});
  } catch (error) {
    if (error.status !== 409) { // 409: it has just finished
      field("list-fault").querySelector("span").textContent = `Not cancelled: ${error.message}`;
      field("list-fault").hidden = false;
      return;
    }
  }
  refresh();
}

field("older").querySelector("button").addEventListener("click", () => refreshNow(() => load(nextCursor)));
subscribeChannels(["jobs"], {
  event({ type, data }) {
    const job = jobsById.get(data.job_id);
    if (type !== "job.progressed" || !job) return refresh();
    showJobs([{ ...job, status: data.status, progress: data.progress, rows: data.rows }], false);
  },
  resync: refresh,
});
setInterval(() => { for (const [id, job] of jobsById) show(rows.get(id), job, jobsUrl); }, REDRAW_MS);
refresh();
