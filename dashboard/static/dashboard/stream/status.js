// The state of the live stream in words: a quiet line in the frame of the page, and a note at its top while it is lost.
import { serverNow } from "../ages.js";
import { clockText, durationText } from "../number_format.js";
import { markFresh, markStale } from "../stale.js";
import { signInUrl } from "../telemetry_api.js";

const SHORT_MS = 2000; // an interruption that is not worth a note
const IDLE_MS = 15_000; // without a value
const reload = { text: "Reload", run: () => location.reload() };

// By close code: the line, the title and the text of the note, and its action.
const FINAL = {
  4001: ["Signed out", "You are signed out.", "", { text: "Sign in", href: signInUrl }],
  4003: ["Not live", "Live updates have ended.", "Your access has ended or has changed.", reload],
  4004: ["Not live", "Live updates have ended.", "The subscription has ended.", reload],
  4009: ["Too many connections", "Too many open connections.", "Close other pages or programs that use your account.", "retry"],
  4013: ["Not live", "Live updates have ended.", "The server has rejected a request of this page, which may be of an earlier version.", reload],
};
const OTHER_FINAL = ["Not live", "Live updates have ended.", "", reload]; // with the reason that the server gives
const REASONS = {
  1011: "The live stream failed on the server.",
  1012: "The server is restarting.",
  4008: "This page received more than its connection can carry.",
  4029: "This page sent too many requests.",
};

const foot = document.getElementById("live");
const [word, detail] = foot.querySelectorAll("span");
let status = { state: "connecting" };
let lostAt = null; // up to when the data is complete
let waitingSince = Date.now(); // since when the stream is not live
let noteTimer = null;
let newest = null; // the newest value: {delay, at}
let liveAt = Date.now();

/** Show a status of connection.js; `retry` connects again. */
export function showStatus(next, retry) {
  if (next.state === "live" && status.state !== "live") liveAt = Date.now();
  if (next.state !== "live" && status.state === "live") [lostAt, waitingSince] = [serverNow(), Date.now()];
  status = next;
  foot.hidden = false;
  foot.dataset.state = status.state;
  foot.title = status.transport === "events" ? "WebSockets are blocked; updates arrive as server-sent events." : "";
  write(word, wordOf());
  showDetail();
  clearTimeout(noteTimer);
  if (status.state === "live") markFresh("live");
  else if (status.state === "stopped") note(retry);
  else noteTimer = setTimeout(() => note(retry), waitingSince + SHORT_MS - Date.now());
}

/** Take the time of a value that arrived: its age is the delay of the stream. */
export function showNewest(ms) {
  newest = { delay: Math.max(0, serverNow() - ms), at: Date.now() };
  showDetail();
}

const final = () => FINAL[status.code] ?? OTHER_FINAL;

function wordOf() {
  if (status.state === "live") return "Live";
  if (status.state === "stopped") return final()[0];
  return status.state === "connecting" ? "Connecting…" : "Reconnecting…";
}

function note(retry) {
  const since = lostAt ? `Data is complete up to ${clockText(lostAt)}.` : "";
  if (status.state === "stopped") {
    const [, title, text, action] = final();
    const reason = text || (status.code in FINAL ? "" : sentence(status.detail));
    markStale("live", title, [reason, since].filter(Boolean).join(" "), action === "retry" ? { text: "Try again", run: retry } : action);
    return;
  }
  const reason = navigator.onLine ? REASONS[status.code] ?? "The server cannot be reached." : "This computer is offline.";
  markStale("live", status.state === "connecting" ? "Connecting…" : "Reconnecting…", [since, reason].filter(Boolean).join(" "), { text: "Try now", run: retry });
}

function sentence(text) {
  return text ? `${text[0].toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}` : "";
}

function showDetail() {
  write(detail, status.state === "live" ? detailOf() : "");
}

function detailOf() {
  const idleMs = Date.now() - Math.max(newest?.at ?? 0, liveAt);
  if (idleMs > IDLE_MS) return `, no data for ${durationText(idleMs / 1000)}`;
  if (!newest) return "";
  const seconds = newest.delay / 1000;
  return `, ${seconds < 10 ? `${seconds.toFixed(1)}\u00a0s` : durationText(seconds)} behind`;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

setInterval(showDetail, 1000);
