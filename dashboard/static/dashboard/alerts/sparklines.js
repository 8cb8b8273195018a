// Draws the sparklines of the inbox after the page is rendered, and refreshes them while it is visible.
import { serverNow } from "../ages.js";
import { showIncomplete } from "../incomplete.js";
import { Sparkline } from "../sparkline.js";
import { getJson } from "../telemetry_api.js";

const BATCH_SIZE = 60; // sparklines of one request
const INTERVAL_MS = 60_000;

export async function drawSparklines(inbox) {
  const elements = [...inbox.querySelectorAll(".course svg")];
  const missing = new Set();
  // They are not displayed on a narrow screen.
  const visible = !document.hidden && elements[0]?.getClientRects().length ? elements : [];
  for (let at = 0; at < visible.length; at += BATCH_SIZE) {
    const batch = new Map(visible.slice(at, at + BATCH_SIZE).map((svg) => [svg.closest(".arow").dataset.alert, svg]));
    const query = new URLSearchParams({ shown: [...batch.keys()].join(",") });
    const response = await getJson(`${inbox.dataset.sparklinesUrl}?${query}`).catch(() => null);
    for (const [alertId, points] of Object.entries(response?.alerts ?? {})) draw(batch.get(alertId), points);
    for (const text of response?.incomplete ?? []) missing.add(text);
  }
  if (visible.length) showIncomplete(document.getElementById("incomplete"), [...missing]);
  setTimeout(() => drawSparklines(inbox), INTERVAL_MS);
}

function draw(svg, { times, values, kind, threshold, until }) {
  const sparkline = new Sparkline(svg, kind, threshold);
  sparkline.replace(times, values);
  sparkline.draw(until ?? serverNow());
}
