// One alert: the chart with its threshold, keyboard shortcuts, and what changes while the page is open.
import { announce } from "../announce.js";
import { ChartView } from "../chart_view.js";
import { readPart, replaceParts } from "../parts.js";
import { refresher } from "../refresh.js";
import { subscribeData } from "../stream/stream.js";
import { readAnomalies } from "../telemetry_api.js";
import { followAlerts } from "./events.js";
import "./unacknowledged.js";

const DAY_MS = 86_400_000; // of the expected range
const head = document.getElementById("alert");
const overlayOf = (root) => JSON.parse(root.querySelector("#overlay")?.textContent ?? "null");
const overlay = overlayOf(document);
let view = null;

if (overlay) {
  const card = document.getElementById("chart-card");
  view = new ChartView(card, { overlay });
  view.setMetrics([overlay.metric]);
  if (overlay.detects) loadExpected(overlay, card.dataset.metricsUrl, view);
  if (!overlay.window) {
    subscribeData({ devices: [card.dataset.device], metrics: [overlay.metric.name] }, {
      points: (points, kind) => view.add(points, kind),
      missed: () => view.load(),
    });
  }
}

/** Draw the expected range and the anomalies; until they are loaded, the alert's own expected range stays. */
async function loadExpected(overlay, metricsUrl, view) {
  const end = overlay.window?.[1] ?? Date.now();
  const anomalies = await readAnomalies(metricsUrl, overlay.metric.name, end - DAY_MS, end).catch(() => null);
  if (!anomalies) return;
  overlay.expected = anomalies.band.map(({ timestamp, low, high }) => [Date.parse(timestamp), low, high]);
  overlay.marks = anomalies.marks.map(({ timestamp, value }) => [Date.parse(timestamp), value]);
  view.drawSoon();
}

// The state, the timeline and the facts; what somebody types or selects stays. The chart has its own stream.
const PARTS = ["#alert", "#alert-notes", "#timeline-events", "#notifications-part", "#facts", "#owner-part", "#related"];

const refresh = refresher(async () => {
  const read = await readPart();
  const changed = replaceParts(read, PARTS, refresh);
  const state = head.querySelector(".alert-state").textContent.replace(/\s+/g, " ").trim();
  if (changed.includes(head)) announce(`This alert changed: ${state}`);
  const spans = overlayOf(read)?.spans;
  if (!view || !spans) return;
  overlay.spans = spans;
  view.drawSoon();
});
followAlerts(refresh, { isShown: ({ data }) => data.alert_id === head.dataset.alert, timeline: true });

const form = document.getElementById("verbs");
const press = (selector) => document.querySelector(selector)?.click();
const KEYS = {
  a: () => press("[form=verbs][value=acknowledge]"),
  s: () => press("[name=lasting][value=hour]"),
  r: () => press("[form=verbs][value=resolve]"),
  m: () => {
    const owner = document.getElementById("owner");
    const me = owner && [...owner.options].find((option) => option.textContent === "me");
    if (!me) return;
    owner.value = me.value;
    owner.form.requestSubmit();
  },
  n: () => document.getElementById("note").focus(),
};
document.addEventListener("page-key", ({ detail: event }) => {
  const verb = form && KEYS[event.key];
  if (!verb) return;
  event.preventDefault();
  verb();
});
