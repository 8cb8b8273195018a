// The time zone of the page, which the server names; times of the browser's own zone are never shown.
export const zone = document.body.dataset.timeZone || "UTC";

const OFFSET_STEP_MS = 900_000; // offsets change at whole quarters of an hour
const parts = new Intl.DateTimeFormat("en-US", {
  timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric",
});
const offsets = new Map();

/** Return the zone's time minus UTC, in ms. */
function offsetAt(ms) {
  const from = Math.floor(ms / OFFSET_STEP_MS) * OFFSET_STEP_MS;
  if (!offsets.has(from)) {
    const at = Object.fromEntries(parts.formatToParts(from).map(({ type, value }) => [type, Number(value)]));
    offsets.set(from, Date.UTC(at.year, at.month - 1, at.day, at.hour, at.minute, at.second) - from);
  }
  return offsets.get(from);
}

/** Return a Date whose UTC fields are the wall clock of the zone. */
export const wallClock = (ms) => new Date(ms + offsetAt(ms));

/** Return the ms of a wall clock time such as "2026-01-31T12:00". */
export function fromWallClock(text) {
  const utc = Date.parse(`${text}Z`);
  return utc - offsetAt(utc - offsetAt(utc));
}
