// One alert: the chart with its threshold, keyboard shortcuts, and a notice when the alert changes.
import { ChartView } from "../chart_view.js";
import { announce, Live } from "../live.js";
import { refreshing } from "../refresh.js";
import { getJson, readAnomalies } from "../telemetry_api.js";
import { showUnacknowledged } from "./unacknowledged.js";

const UPDATE_INTERVAL_MS = 5000;
const DAY_MS = 86_400_000; // of the expected range
const head = document.getElementById("alert");
const overlayData = document.getElementById("overlay");

if (overlayData) {
  const overlay = JSON.parse(overlayData.textContent);
  const card = document.getElementById("chart-card");
  const view = new ChartView(card, { overlay });
  view.setMetrics([overlay.metric]);
  if (overlay.detects) loadExpected(overlay, card.dataset.metricsUrl, view);
  if (!overlay.window) {
    const live = new Live({ devices: [card.dataset.device], metrics: [overlay.metric.name], everyMs: 500 });
    live.addEventListener("points", ({ detail }) => { for (const [, metric, ms, value] of detail) view.append(metric, ms, value); });
    live.addEventListener("back", () => view.load());
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

async function checkForUpdates() {
  const { updatesUrl, alert, status, silenced } = head.dataset;
  const updates = document.hidden ? null : await refreshing(() => getJson(`${updatesUrl}?shown=${alert}`));
  if (updates) {
    showUnacknowledged(updates.unacknowledged);
    const current = updates.alerts[alert];
    const hasChanged = current !== undefined && (current.status !== status || current.silenced !== silenced);
    const notice = document.getElementById("changed");
    if (hasChanged && notice.hidden) announce("This alert changed since the page was opened");
    notice.hidden = !hasChanged;
  }
  setTimeout(checkForUpdates, UPDATE_INTERVAL_MS);
}
if (head.dataset.status !== "resolved") setTimeout(checkForUpdates, UPDATE_INTERVAL_MS);

for (const link of document.querySelectorAll("#changed a")) link.addEventListener("click", (event) => { event.preventDefault(); location.reload(); });

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
