// One row of the list of exports: what it is, how far it is, what may be done with it.
import { clockText, dayText, durationText, numberText, reading } from "./values.js";

const SPACE = "\u00a0";
const WORDS = { queued: "Waiting", running: "Being made", done: "Ready", failed: "Failed", cancelled: "Cancelled" };
const SIGNS = { queued: "d-never", running: "d-late", done: "d-ok", failed: "d-silent", cancelled: "i-x" };
const CLASSES = { running: "busy" };
const INTERVALS = { 60: "a minute", 300: "every 5 minutes", 900: "every 15 minutes", 3600: "an hour", 86400: "a day" };
const FORMATS = { csv: "CSV", jsonl: "JSON lines", parquet: "Parquet" };

export const isUnfinished = (job) => job.status === "queued" || job.status === "running";

function named(names, many) {
  return names.length === 1 ? names[0] : names.length === 2 ? names.join(" and ") : `${numberText(names.length)} ${many}`;
}

function moment(text) {
  const ms = Date.parse(text);
  return `${dayText(ms)} ${clockText(ms, false)}`;
}

function whatOf(job) {
  return `${named(job.metric_names, "metrics")} of ${named(job.device_ids, "devices")}`;
}

function detailOf(job) {
  const each = job.interval ? ` ${INTERVALS[job.interval] ?? `every ${job.interval}${SPACE}s`}` : "";
  const values = job.aggregation ? `, ${job.aggregation}${each}` : "";
  return `${moment(job.start_time)} to ${moment(job.end_time)}${values}, ${FORMATS[job.format]}`;
}

function whyOf(job) {
  if (job.status === "failed") return job.detail[0].toUpperCase() + job.detail.slice(1);
  return job.incomplete.length ? `Incomplete: ${job.incomplete.join("; ")}` : "";
}

/** Writes a job into its row, and only what changed, so that nobody loses focus or place. */
export function show(row, job) {
  row.dataset.status = job.status;
  write(row.querySelector(".what"), whatOf(job));
  write(row.querySelector("th .sub"), detailOf(job));
  const sign = row.querySelector(".st");
  sign.className = `st ${job.status} ${CLASSES[job.status] ?? ""}`.trim();
  sign.querySelector("use").setAttribute("href", `#${SIGNS[job.status]}`);
  const percent = Math.floor(job.progress * 100);
  write(sign.querySelector("span"), job.status === "running" ? `${WORDS.running}, ${percent}${SPACE}%` : WORDS[job.status]);
  const bar = row.querySelector("progress");
  bar.hidden = job.status !== "running";
  bar.value = job.progress;
  bar.setAttribute("aria-label", `${whatOf(job)}: ${percent} %`);
  const why = row.querySelector(".why");
  why.hidden = !whyOf(job);
  write(why, whyOf(job));
  write(row.querySelector("[data-rows]"), job.rows ? numberText(job.rows) : "");
  write(row.querySelector("[data-size]"), job.bytes ? reading(job.bytes, "B").join(SPACE) : "");
  const left = (Date.parse(job.expires_at) - Date.now()) / 1000;
  write(row.querySelector("[data-left]"), job.status === "done" ? durationText(left) : "");
  const [link, button] = [row.querySelector("a.btn"), row.querySelector("button")];
  link.href = `/api/v1/telemetry/export/jobs/${job.id}/download`;
  link.setAttribute("aria-label", `Download ${whatOf(job)}`);
  button.setAttribute("aria-label", `Cancel ${whatOf(job)}`);
  const held = document.activeElement === button && !isUnfinished(job);
  link.hidden = job.status !== "done";
  button.hidden = !isUnfinished(job);
  if (held && !link.hidden) link.focus();
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
