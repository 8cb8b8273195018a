// The overview: open alerts, the summary of the devices, one chart and the list of devices.
import { setAge } from "./ages.js";
import { followAlerts } from "./alerts/events.js";
import "./alerts/unacknowledged.js";
import { announce } from "./announce.js";
import { ChartView } from "./chart_view.js";
import { DeviceList } from "./device_list.js";
import { write } from "./flash.js";
import { reading } from "./number_format.js";
import { readPart, replaceParts } from "./parts.js";
import { refresher } from "./refresh.js";
import { subscribeChannels, subscribeData } from "./stream/stream.js";

const settings = document.getElementById("overview");
const alerts = document.getElementById("open-alerts-part");

const refreshAlerts = refresher(async () => {
  const read = await readPart(alerts.dataset.url);
  const titleOf = () => alerts.querySelector("h2")?.textContent ?? "No open alerts";
  const title = titleOf();
  replaceParts(read, ["#open-alerts-part"], refreshAlerts);
  if (titleOf() !== title) announce(titleOf());
});

followAlerts(refreshAlerts);
if (settings) start();
else awaitFirst();

/** Reload the page with the first point that a chart can show. */
function awaitFirst() {
  const isDrawable = ({ value }) => typeof value === "number" || typeof value === "boolean";
  subscribeData({}, { points: (points) => { if (points.some(isDrawable)) location.reload(); } });
}

function start() {
  const { metric, kind, unit, all, deviceName, summaryUrl } = settings.dataset;
  const card = document.getElementById("chart-card");
  const view = card && new ChartView(card, { startAtFirst: true });
  const big = document.getElementById("big");
  view?.setMetrics([{ name: metric, kind, unit }]);

  // If the page lists all devices, subscribe to all: the age of the newest value is that of any device.
  const list = new DeviceList({ all: all === "yes" }, {
    points(points, streamed) {
      const age = document.querySelector("[data-newest]");
      const newest = points.reduce((ms, point) => Math.max(ms, point.ms), 0);
      if (age && newest) setAge(age, newest);
      if (view) showChart(points.filter((point) => point.device === view.device), streamed);
    },
    missed: () => view?.load(),
  });

  const states = () => document.getElementById("device-states").textContent;
  const refreshSummary = refresher(async () => {
    const before = states();
    replaceParts(await readPart(summaryUrl), ["#device-summary"], refreshSummary);
    if (states() !== before) list.offer("The states have changed");
  });
  // A listed device is late or offline by its age, before the server says so.
  document.addEventListener("states-changed", refreshSummary);
  let counts = null;
  subscribeChannels(["devices", "dashboard"], {
    event(event) {
      list.apply(event);
      refreshSummary();
    },
    figures({ devices, last_seen: lastSeen }) {
      const age = document.querySelector("[data-newest]");
      if (age && lastSeen) setAge(age, Date.parse(lastSeen));
      if (counts !== null && counts !== JSON.stringify(devices)) refreshSummary();
      counts = JSON.stringify(devices);
    },
    resync: refreshSummary,
  });

  function showChart(points, streamed) {
    view.add(points, streamed);
    const newest = points.filter((point) => point.metric === metric && !point.late).at(-1);
    if (!newest) return;
    const [text, symbol] = reading(newest.value, unit);
    if (write(big.firstElementChild, text)) big.lastElementChild.textContent = symbol;
    announce(`${deviceName}, ${metric}: ${text} ${symbol}`);
  }
}
