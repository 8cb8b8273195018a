// What each row's metric did, with its limit: asked for once the rows stand, and again while somebody looks.
import { serverNow } from "../ages.js";
import { tellIncomplete } from "../incomplete.js";
import { Spark } from "../spark.js";
import { getJson } from "../telemetry_api.js";

const TOGETHER = 60; // of which the server tells at once
const AGAIN_MS = 60_000;

export async function drawCourses(inbox) {
  const drawn = [...inbox.querySelectorAll(".course svg")];
  const missing = new Set();
  // A narrow screen has no room for them.
  const seen = !document.hidden && drawn[0]?.getClientRects().length ? drawn : [];
  for (let at = 0; at < seen.length; at += TOGETHER) {
    const some = new Map(seen.slice(at, at + TOGETHER).map((svg) => [svg.closest(".arow").dataset.alert, svg]));
    const query = new URLSearchParams({ shown: [...some.keys()].join(",") });
    const told = await getJson(`${inbox.dataset.courses}?${query}`).catch(() => null);
    for (const [alertId, course] of Object.entries(told?.alerts ?? {})) draw(some.get(alertId), course);
    for (const one of told?.incomplete ?? []) missing.add(one);
  }
  if (seen.length) tellIncomplete(document.getElementById("incomplete"), [...missing]);
  setTimeout(() => drawCourses(inbox), AGAIN_MS);
}

function draw(svg, { times, values, kind, limit, until }) {
  const spark = new Spark(svg, kind, limit);
  spark.replace(times, values);
  spark.draw(until ?? serverNow());
}
