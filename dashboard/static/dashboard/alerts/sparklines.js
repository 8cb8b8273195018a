// Draws the sparklines of the inbox after the page is rendered, and adds the values that arrive.
import { serverNow } from "../ages.js";
import { showIncomplete } from "../incomplete.js";
import { Sparkline } from "../sparkline.js";
import { subscribeData } from "../stream/stream.js";
import { getJson } from "../telemetry_api.js";

const BATCH_SIZE = 60; // sparklines of one request
const EVERY_MS = 5000;
const REDRAW_MS = 60_000; // an hour moves on

let live = new Map(); // device and metric to the sparklines of open alerts
let isDrawn = false;
let unsubscribe = () => {};

const keyOf = (device, metric) => `${device}\0${metric}`;

/** Draw the sparklines of the rows; again after the rows were replaced. */
export async function drawSparklines(inbox) {
  const elements = [...inbox.querySelectorAll(".course svg")];
  // They are not displayed on a narrow screen, and nobody sees them in a hidden page.
  isDrawn = !document.hidden && Boolean(elements[0]?.getClientRects().length);
  if (!isDrawn) return;
  live = new Map();
  unsubscribe();
  unsubscribe = subscribe(elements);
  await load(inbox, elements);
}

function subscribe(elements) {
  const names = (field) => [...new Set(elements.map((svg) => svg.dataset[field]))];
  return subscribeData({ devices: names("device"), metrics: names("metric"), everyMs: EVERY_MS }, {
    points(points) {
      for (const { device, metric, ms, value } of points) {
        for (const sparkline of live.get(keyOf(device, metric)) ?? []) {
          sparkline.append(ms, value);
          sparkline.draw(serverNow());
        }
      }
    },
  });
}

async function load(inbox, elements) {
  const missing = new Set();
  for (let at = 0; at < elements.length; at += BATCH_SIZE) {
    const batch = new Map(elements.slice(at, at + BATCH_SIZE).map((svg) => [svg.closest(".arow").dataset.alert, svg]));
    const query = new URLSearchParams({ shown: [...batch.keys()].join(",") });
    const response = await getJson(`${inbox.dataset.sparklinesUrl}?${query}`).catch(() => null);
    for (const [alertId, points] of Object.entries(response?.alerts ?? {})) draw(batch.get(alertId), points);
    for (const text of response?.incomplete ?? []) missing.add(text);
  }
  showIncomplete(document.getElementById("incomplete"), [...missing]);
}

function draw(svg, { times, values, kind, threshold, until }) {
  const sparkline = new Sparkline(svg, kind, threshold);
  sparkline.replace(times, values);
  sparkline.draw(until ?? serverNow());
  if (until !== null) return;
  const key = keyOf(svg.dataset.device, svg.dataset.metric);
  live.set(key, [...(live.get(key) ?? []), sparkline]);
}

/** Draw the sparklines once they are displayed, and move them on. */
export function followSparklines(inbox) {
  drawSparklines(inbox);
  const drawLater = () => { if (!isDrawn) drawSparklines(inbox); };
  document.addEventListener("visibilitychange", drawLater);
  addEventListener("resize", drawLater);
  setInterval(() => {
    for (const sparklines of live.values()) for (const sparkline of sparklines) sparkline.draw(serverNow());
  }, REDRAW_MS);
}
