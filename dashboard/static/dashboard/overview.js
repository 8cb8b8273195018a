// The overview: the sentence, one chart, the devices.
import { setAge, tick } from "./ages.js";
import { ChartView } from "./chart_view.js";
import { rowsByDevice, update } from "./device_rows.js";
import { write } from "./flash.js";
import { announce, Live } from "./live.js";
import { reading } from "./values.js";

const settings = document.getElementById("overview");

if (settings) start();
else awaitFirst();

/** Nothing to show yet: the first measurement turns the page. */
function awaitFirst() {
  const live = new Live({ everyMs: 500 });
  // Only what a chart can show turns the page; else it would turn for ever.
  live.addEventListener("points", ({ detail }) => { if (detail.some(([, , , value]) => typeof value === "number" || typeof value === "boolean")) location.reload(); });
}

function start() {
  const { metric, kind, unit, all, deviceName } = settings.dataset;
  const card = document.getElementById("chart-card");
  const view = card && new ChartView(card, { young: true });
  const rows = rowsByDevice();
  const known = new Set(rows.keys());
  const newer = new Set();
  // A fleet that the page shows whole is heard whole, so that a new device is noticed.
  const live = new Live({ devices: all === "yes" ? null : [...rows.keys()], everyMs: 500 });
  const big = document.getElementById("big");
  view?.setMetrics([{ name: metric, kind, unit }]);

  live.addEventListener("points", ({ detail }) => {
    update(rows, detail);
    let newest = 0;
    for (const [device, name, ms, value] of detail) {
      newest = Math.max(newest, ms);
      if (device === view?.device && name === metric) hear(ms, value);
      if (!known.has(device) && all === "yes") newer.add(device);
    }
    const age = document.querySelector("[data-newest]");
    if (age && newest) setAge(age, newest);
    if (newer.size) offer();
  });
  live.addEventListener("back", () => view?.load());
  document.addEventListener("states-changed", refreshSentence);

  function hear(ms, value) {
    view.append(metric, ms, value);
    const [text, symbol] = reading(value, unit);
    if (write(big.firstElementChild, text)) big.lastElementChild.textContent = symbol;
    announce(`${deviceName}, ${metric}: ${text} ${symbol}`);
  }

  /** New rows wait until they are wanted. */
  function offer() {
    const button = document.getElementById("newer");
    button.hidden = false;
    button.textContent = newer.size === 1 ? "1 newer device" : `${newer.size} newer devices`;
    button.onclick = () => location.reload();
  }
}

async function refreshSentence() {
  const answer = await fetch("/situation/", { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) return;
  const made = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("situation");
  if (made) document.getElementById("situation").replaceWith(made);
  tick();
}
