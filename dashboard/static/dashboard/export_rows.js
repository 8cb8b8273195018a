// A row of the list of exports.
import { clockText, dayText, durationText, numberText, reading } from "./number_format.js";

const SPACE = "\u00a0";
const LABELS = { queued: "Queued", running: "Running", done: "Ready", failed: "Failed", cancelled: "Cancelled" };
const SIGNS = { queued: "d-never", running: "d-late", done: "d-ok", failed: "d-offline", cancelled: "i-x" };
const CLASSES = { running: "busy" };
const INTERVALS = { 60: "per minute", 300: "per 5 minutes", 900: "per 15 minutes", 3600: "per hour", 86400: "per day" };
const FORMATS = { csv: "CSV", jsonl: "JSON lines", parquet: "Parquet" };

export const isUnfinished = (job) => job.status === "queued" || job.status === "running";

function listed(names, plural) {
  return names.length === 1 ? names[0] : names.length === 2 ? names.join(" and ") : `${numberText(names.length)} ${plural}`;
}

function moment(text) {
  const ms = Date.parse(text);
  return `${dayText(ms)} ${clockText(ms, false)}`;
}

function titleOf(job) {
  return `${listed(job.metric_names, "metrics")} of ${listed(job.device_ids, "devices")}`;
}

function detailOf(job) {
  const interval = job.interval ? ` ${INTERVALS[job.interval] ?? `per ${job.interval}${SPACE}s`}` : "";
  const values = job.aggregation ? `, ${job.aggregation}${interval}` : "";
  return `${moment(job.start_time)} to ${moment(job.end_time)}${values}, ${FORMATS[job.format]}${job.bom ? " for Excel" : ""}`;
}

function reasonOf(job) {
  if (job.status === "failed") return job.detail[0].toUpperCase() + job.detail.slice(1);
  return job.incomplete.length ? `Incomplete: ${job.incomplete.join("; ")}` : "";
}

/** Write a job into its row. Unchanged elements keep focus and selection. */
export function show(row, job, jobsUrl) {
  row.dataset.status = job.status;
  write(row.querySelector(".what"), titleOf(job));
  write(row.querySelector("th .sub"), detailOf(job));
  const sign = row.querySelector(".st");
  sign.className = `st ${job.status} ${CLASSES[job.status] ?? ""}`.trim();
  sign.querySelector("use").setAttribute("href", `#${SIGNS[job.status]}`);
  const percent = Math.floor(job.progress * 100);
  write(sign.querySelector("span"), job.status === "running" ? `${LABELS.running}, ${percent}${SPACE}%` : LABELS[job.status]);
  const bar = row.querySelector("progress");
  bar.hidden = job.status !== "running";
  bar.value = job.progress;
  bar.setAttribute("aria-label", `${titleOf(job)}: ${percent} %`);
  const why = row.querySelector(".why");
  why.hidden = !reasonOf(job);
  write(why, reasonOf(job));
  write(row.querySelector("[data-rows]"), job.rows ? numberText(job.rows) : "");
  write(row.querySelector("[data-size]"), job.bytes ? reading(job.bytes, "B").join(SPACE) : "");
  const left = (Date.parse(job.expires_at) - Date.now()) / 1000;
  write(row.querySelector("[data-left]"), job.status === "done" ? durationText(left) : "");
  const [link, button] = [row.querySelector("a.btn"), row.querySelector("button")];
  link.href = `${jobsUrl}/${job.id}/download`;
  link.setAttribute("aria-label", `Download ${titleOf(job)}`);
  button.setAttribute("aria-label", `Cancel ${titleOf(job)}`);
  const hadFocus = document.activeElement === button && !isUnfinished(job);
  link.hidden = job.status !== "done";
  button.hidden = !isUnfinished(job);
  if (hadFocus && !link.hidden) link.focus();
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
