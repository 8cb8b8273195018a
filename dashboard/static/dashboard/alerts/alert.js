// One alert: the chart with its limit and firing, verbs by key, and whether something changed elsewhere.
import { ChartView } from "../chart_view.js";
import { announce, Live } from "../live.js";
import { getJson, readAnomalies } from "../telemetry_api.js";
import "./times.js";
import { showWaiting } from "./waiting.js";

const NEWS_MS = 5000;
const DAY_MS = 86_400_000; // of which the detector tells what it expected
const head = document.getElementById("alert");
const given = document.getElementById("overlay");

if (given) {
  const overlay = JSON.parse(given.textContent);
  const card = document.getElementById("chart-card");
  const view = new ChartView(card, { overlay });
  view.setMetrics([overlay.metric]);
  if (overlay.detects) expect(overlay, card.dataset.device, view);
  if (!overlay.window) {
    const live = new Live({ devices: [card.dataset.device], metrics: [overlay.metric.name], everyMs: 500 });
    live.addEventListener("points", ({ detail }) => { for (const [, metric, ms, value] of detail) view.append(metric, ms, value); });
    live.addEventListener("back", () => view.load());
  }
}

/** Draw what the detector expected and marked; until it has told, or where it cannot, the band of the moment stays. */
async function expect(overlay, device, view) {
  const end = overlay.window?.[1] ?? Date.now();
  const found = await readAnomalies(device, overlay.metric.name, end - DAY_MS, end).catch(() => null);
  if (!found) return;
  overlay.expected = found.band.map((one) => [Date.parse(one.timestamp), one.low, one.high]);
  overlay.marks = found.marks.map((one) => [Date.parse(one.timestamp), one.value]);
  view.drawSoon();
}

async function look() {
  const { news, alert, status } = head.dataset;
  const told = document.hidden ? null : await getJson(`${news}?shown=${alert}`).catch(() => null);
  if (told) {
    showWaiting(told.waiting);
    const known = told.alerts[alert];
    const changed = known !== undefined && known.status !== status;
    const moved = document.getElementById("moved");
    if (changed && moved.hidden) announce("Something changed since this page was opened");
    moved.hidden = !changed;
  }
  setTimeout(look, NEWS_MS);
}
if (head.dataset.status !== "resolved") setTimeout(look, NEWS_MS);

for (const at of document.querySelectorAll("#moved a")) at.addEventListener("click", (event) => { event.preventDefault(); location.reload(); });

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
