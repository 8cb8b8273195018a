// One device: its newest values and a chart of those that are chosen.
import { serverNow, setAge } from "./ages.js";
import { ChartView } from "./chart_view.js";
import { write } from "./flash.js";
import { tellIncomplete } from "./incomplete.js";
import { announce, Live } from "./live.js";
import { picker } from "./picker.js";
import { Spark } from "./spark.js";
import { readRecent } from "./telemetry_api.js";
import { pointText, reading } from "./values.js";

const head = document.getElementById("device");
const device = head.dataset.device;
const rows = new Map([...document.querySelectorAll("#values tr[data-metric]")].map((row) => [row.dataset.metric, newRow(row)]));
const live = new Live({ devices: [device], everyMs: 500 });

if (rows.size) start();
else live.addEventListener("points", ({ detail }) => { if (detail.length) location.reload(); });

function newRow(row) {
  const svg = row.querySelector(".spark");
  return { row, kind: row.dataset.kind, unit: row.dataset.unit, spark: svg && new Spark(svg, row.dataset.kind), low: null, high: null };
}

function start() {
  const card = document.getElementById("chart-card");
  const metrics = JSON.parse(document.getElementById("drawable")?.textContent ?? "[]");
  const view = card && new ChartView(card);
  if (view) {
    const choose = picker(card, metrics, (chosen) => view.setMetrics(chosen));
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
  setInterval(() => drawSparks(), 10_000);
  setInterval(() => loadRecent(), 600_000); // midnight passes, and thinned lines are made whole

  live.addEventListener("points", ({ detail }) => {
    let newest = 0;
    for (const [, metric, ms, value, unit] of detail) {
      newest = Math.max(newest, ms);
      hear(metric, ms, value, unit);
      view?.append(metric, ms, value);
    }
    if (newest) setAge(head.querySelector("[data-age]"), newest);
    if (view) announce(summary(view));
  });
  live.addEventListener("back", () => { view?.load(); loadRecent(); });
}

function hear(metric, ms, value, unit) {
  const known = rows.get(metric);
  if (!known) return;
  const { row } = known;
  const [text, symbol] = reading(value, unit ?? known.unit);
  write(row.querySelector(".reading"), text);
  row.querySelector(".unit").textContent = symbol;
  setAge(row.querySelector("[data-age]"), ms);
  if (!known.spark) return;
  known.spark.append(ms, value);
  known.spark.draw(serverNow());
  if (known.low === null || value < known.low || value > known.high) {
    known.low = Math.min(known.low ?? value, value);
    known.high = Math.max(known.high ?? value, value);
    writeToday(known);
  }
}

function writeToday({ row, low, high, kind, unit }) {
  const cell = row.querySelector("[data-today]");
  if (low === null) { cell.textContent = "no data"; return; }
  const [from, to] = [pointText(low, { kind, unit }), pointText(high, { kind, unit })];
  cell.textContent = kind === "boolean" ? (low === high ? `${from} all day` : "on and off") : rangeText(low, high, unit);
}

/** "3.1 to 4.2": the unit stands in the column beside, unless both ends have prefixes of their own. */
function rangeText(low, high, unit) {
  const [[a, unitA], [b, unitB]] = [reading(low, unit), reading(high, unit)];
  const own = unitA !== unitB || unitA !== reading(1, unit)[1];
  if (a === b && unitA === unitB) return own ? [a, unitA].filter(Boolean).join("\u00a0") : a;
  return own ? `${[a, unitA].filter(Boolean).join("\u00a0")} to ${[b, unitB].filter(Boolean).join("\u00a0")}` : `${a} to ${b}`;
}

async function loadRecent() {
  const drawable = [...rows].filter(([, known]) => known.spark).map(([name]) => name);
  if (!drawable.length) return;
  const answer = await readRecent(device, drawable).catch(() => null);
  if (answer?.incomplete?.length) tellIncomplete(document.getElementById("newest-incomplete"), answer.incomplete);
  for (const [name, recent] of Object.entries(answer?.metrics ?? {})) {
    const known = rows.get(name);
    if (!known?.spark) continue;
    known.spark.replace(recent.times, recent.values);
    [known.low, known.high] = [recent.low, recent.high];
    writeToday(known);
  }
  drawSparks();
}

function drawSparks() {
  for (const known of rows.values()) known.spark?.draw(serverNow());
}

function summary(view) {
  return view.series.map((series) => `${series.name} ${pointText(series.values.at(-1), series)}`).join(", ");
}
