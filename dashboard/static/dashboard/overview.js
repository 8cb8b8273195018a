// The overview: the device summary, one chart and the list of devices.
import { setAge, tick } from "./ages.js";
import { ChartView } from "./chart_view.js";
import { rowsByDevice, update } from "./device_rows.js";
import { write } from "./flash.js";
import { announce, Live } from "./live.js";
import { reading } from "./number_format.js";
import { refreshing } from "./refresh.js";
import { getPart } from "./telemetry_api.js";

const SUMMARY_MS = 10_000; // states change without a message of the stream, and of devices that are not listed
const settings = document.getElementById("overview");

if (settings) start();
else awaitFirst();

/** Reload the page with the first point that a chart can show. */
function awaitFirst() {
  const live = new Live({ everyMs: 500 });
  const isDrawable = ([, , , value]) => typeof value === "number" || typeof value === "boolean";
  live.addEventListener("points", ({ detail }) => { if (detail.some(isDrawable)) location.reload(); });
}

function start() {
  const { metric, kind, unit, all, deviceName, summaryUrl } = settings.dataset;
  const card = document.getElementById("chart-card");
  const view = card && new ChartView(card, { startAtFirst: true });
  const rows = rowsByDevice();
  const listed = new Set(rows.keys());
  const newer = new Set();
  // If the page lists all devices, subscribe to all, so that a new device is noticed.
  const live = new Live({ devices: all === "yes" ? null : [...rows.keys()], everyMs: 500 });
  const big = document.getElementById("big");
  view?.setMetrics([{ name: metric, kind, unit }]);

  live.addEventListener("points", ({ detail }) => {
    update(rows, detail);
    let newest = 0;
    for (const [device, name, ms, value] of detail) {
      newest = Math.max(newest, ms);
      if (device === view?.device && name === metric) showValue(ms, value);
      if (!listed.has(device) && all === "yes") newer.add(device);
    }
    const age = document.querySelector("[data-newest]");
    if (age && newest) setAge(age, newest);
    offerReload();
  });
  live.addEventListener("back", () => view?.load());
  const stateTexts = () => document.getElementById("device-states").textContent;
  const statesBefore = stateTexts();
  let statesChanged = false;
  const refresh = async () => {
    if (document.hidden || !(await refreshSummary(summaryUrl)) || all === "yes" && rows.size === Number(settings.dataset.total)) return;
    statesChanged = stateTexts() !== statesBefore;
    offerReload();
  };
  document.addEventListener("states-changed", refresh);
  setInterval(refresh, SUMMARY_MS);

  function showValue(ms, value) {
    view.append(metric, ms, value);
    const [text, symbol] = reading(value, unit);
    if (write(big.firstElementChild, text)) big.lastElementChild.textContent = symbol;
    announce(`${deviceName}, ${metric}: ${text} ${symbol}`);
  }

  /** Offer to show new devices and other states; rows are not added or moved by themselves. */
  function offerReload() {
    const button = document.getElementById("newer");
    button.hidden = !newer.size && !statesChanged;
    const count = newer.size === 1 ? "1 newer device" : `${newer.size} newer devices`;
    button.textContent = newer.size ? count : "The states changed. Reload";
    button.onclick = () => location.reload();
  }
}

/** @returns whether the summary was refreshed */
async function refreshSummary(url) {
  const response = await refreshing(() => getPart(url));
  if (!response) return false;
  const summary = new DOMParser().parseFromString(await response.text(), "text/html").getElementById("device-summary");
  if (summary) document.getElementById("device-summary").replaceWith(summary);
  tick();
  return Boolean(summary);
}
