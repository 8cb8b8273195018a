// One device: its newest values and a chart of the selected metrics.
import { serverNow, setAge } from "./ages.js";
import { announce } from "./announce.js";
import { ChartView } from "./chart_view.js";
import { followAlerts } from "./alerts/events.js";
import "./alerts/unacknowledged.js";
import { write } from "./flash.js";
import { showIncomplete } from "./incomplete.js";
import { metricPicker } from "./metric_picker.js";
import { pointText, reading } from "./number_format.js";
import { readPart, replaceParts } from "./parts.js";
import { refresher } from "./refresh.js";
import { Sparkline } from "./sparkline.js";
import { subscribeData } from "./stream/stream.js";
import { readRecent } from "./telemetry_api.js";
import { fromWallClock, wallClock } from "./time_zone.js";

const head = document.getElementById("device");
const { device, recentUrl } = head.dataset;
const rows = new Map([...document.querySelectorAll("#values tr[data-metric]")].map((row) => [row.dataset.metric, newRow(row)]));

const refreshAlerts = refresher(async () => { replaceParts(await readPart(), ["#device-alerts-part"], refreshAlerts); });

if (rows.size) start();
else subscribeData({ devices: [device] }, { points: (points) => { if (points.length) location.reload(); } });
followAlerts(refreshAlerts, { isShown: ({ data }) => data.device_id === device });

function newRow(row) {
  const svg = row.querySelector(".spark");
  return { row, kind: row.dataset.kind, unit: row.dataset.unit, sparkline: svg && new Sparkline(svg, row.dataset.kind), low: null, high: null };
}

function start() {
  const card = document.getElementById("chart-card");
  const metrics = JSON.parse(document.getElementById("drawable")?.textContent ?? "[]");
  const events = JSON.parse(document.getElementById("annotations")?.textContent ?? "[]");
  const overlay = events.length ? { thresholds: [], band: null, spans: [], events } : null;
  const view = card && new ChartView(card, { overlay });
  if (view) {
    const choose = metricPicker(card, metrics, (chosen) => view.setMetrics(chosen));
    for (const { row } of rows.values()) {
      row.querySelector("a[data-row]")?.addEventListener("click", (event) => {
        if (event.ctrlKey || event.metaKey || event.shiftKey) return;
        event.preventDefault();
        choose([row.dataset.metric]);
        card.scrollIntoView({ block: "nearest" });
      });
    }
  }
  loadRecent();
  setInterval(() => drawSparklines(), 10_000);
  loadAtMidnight();

  subscribeData({ devices: [device] }, {
    points(points, kind) {
      for (const point of points) showValue(point);
      const newest = points.reduce((ms, point) => Math.max(ms, point.ms), 0);
      if (newest) setAge(head.querySelector("[data-age]"), newest);
      view?.add(points, kind);
      if (view && points.length) announce(summary(view));
    },
    missed() {
      view?.load();
      loadRecent();
    },
  });
}

/** Load the range of today when the day begins. */
function loadAtMidnight() {
  const tomorrow = dayOf(serverNow() + 86_400_000);
  setTimeout(() => { loadRecent(); loadAtMidnight(); }, Math.max(60_000, fromWallClock(`${tomorrow}T00:00`) - serverNow() + 1000));
}

function showValue({ metric, ms, value, unit, late }) {
  const shown = rows.get(metric);
  if (!shown) return;
  const { row } = shown;
  if (!late) {
    const [text, symbol] = reading(value, unit ?? shown.unit);
    write(row.querySelector(".reading"), text);
    row.querySelector(".unit").textContent = symbol;
    setAge(row.querySelector("[data-age]"), ms);
  }
  if (!shown.sparkline) return;
  shown.sparkline.append(ms, value);
  shown.sparkline.draw(serverNow());
  if (!isToday(ms)) return;
  if (shown.low === null || value < shown.low || value > shown.high) {
    shown.low = Math.min(shown.low ?? value, value);
    shown.high = Math.max(shown.high ?? value, value);
    writeToday(shown);
  }
}

function dayOf(ms) {
  return wallClock(ms).toISOString().slice(0, 10);
}

function isToday(ms) {
  return dayOf(ms) === dayOf(serverNow());
}

function writeToday({ row, low, high, kind, unit }) {
  const cell = row.querySelector("[data-today]");
  if (low === null) { cell.textContent = "no data"; return; }
  const [from, to] = [pointText(low, { kind, unit }), pointText(high, { kind, unit })];
  cell.textContent = kind === "boolean" ? (low === high ? `${from} all day` : "on and off") : rangeText(low, high, unit);
}

/** Return "3.1 to 4.2"; the unit is in another column, unless a value needs another prefix. */
function rangeText(low, high, unit) {
  const [[a, unitA], [b, unitB]] = [reading(low, unit), reading(high, unit)];
  const needsUnits = unitA !== unitB || unitA !== reading(1, unit)[1];
  if (a === b && unitA === unitB) return needsUnits ? [a, unitA].filter(Boolean).join("\u00a0") : a;
  return needsUnits ? `${[a, unitA].filter(Boolean).join("\u00a0")} to ${[b, unitB].filter(Boolean).join("\u00a0")}` : `${a} to ${b}`;
}

async function loadRecent() {
  const drawable = [...rows].filter(([, shown]) => shown.sparkline).map(([name]) => name);
  if (!drawable.length) return;
  const response = await readRecent(recentUrl, drawable).catch(() => null);
  if (response?.incomplete?.length) showIncomplete(document.getElementById("newest-incomplete"), response.incomplete);
  for (const [name, recent] of Object.entries(response?.metrics ?? {})) {
    const shown = rows.get(name);
    if (!shown?.sparkline) continue;
    shown.sparkline.replace(recent.times, recent.values);
    [shown.low, shown.high] = [recent.low, recent.high];
    writeToday(shown);
  }
  drawSparklines();
}

function drawSparklines() {
  for (const shown of rows.values()) shown.sparkline?.draw(serverNow());
}

function summary(view) {
  return view.series.map((series) => `${series.name} ${pointText(series.values.at(-1), series)}`).join(", ");
}
