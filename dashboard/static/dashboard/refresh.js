// Requests that read a part of the page again after an event; the page says since when they fail.
import { serverNow } from "./ages.js";
import { clockText } from "./number_format.js";
import { markFresh, markStale } from "./stale.js";
import { signInUrl } from "./telemetry_api.js";

const GATHER_MS = 250; // events come together
const MIN_PAUSE_MS = 1000;
const HIDDEN_PAUSE_MS = 15_000; // between requests of a page that nobody sees
const COST_FACTOR = 4; // a slow answer is not asked for as often
const [MIN_RETRY_MS, MAX_RETRY_MS] = [2000, 60_000];

let readAt = serverNow();

/**
 * Return a function that makes the request soon: for all calls meanwhile one request, one at a time, and again after a
 * failure. `request` reads and shows.
 */
export function refresher(request) {
  let [timer, isRunning, isDue, earliest, failures] = [null, false, false, 0, 0];

  function schedule() {
    if (isRunning || timer !== null) return;
    // A random part, so that the pages of all viewers do not ask in the same moment.
    timer = setTimeout(run, Math.max(GATHER_MS * (0.5 + Math.random() / 2), earliest - Date.now()));
  }

  async function run() {
    [timer, isRunning, isDue] = [null, true, false];
    const startedAt = Date.now();
    try {
      await request();
      readAt = serverNow();
      failures = 0;
      markFresh("refresh");
    } catch (error) {
      isDue = showFailure(error);
      failures++;
    }
    isRunning = false;
    const retry = failures ? Math.min(MAX_RETRY_MS, MIN_RETRY_MS * 2 ** (failures - 1)) * (0.5 + Math.random() / 2) : 0;
    const pause = document.hidden ? HIDDEN_PAUSE_MS : MIN_PAUSE_MS;
    earliest = Date.now() + Math.max(pause, retry, COST_FACTOR * (Date.now() - startedAt));
    if (isDue) schedule();
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden || timer === null || failures) return;
    clearTimeout(timer);
    timer = null;
    earliest = 0;
    schedule();
  });
  return () => {
    isDue = true;
    schedule();
  };
}

/** Make a request that somebody asked for; the page says so if it fails. */
export async function refreshNow(request) {
  try {
    await request();
    markFresh("refresh");
  } catch (error) {
    showFailure(error, "");
  }
}

/** Show why the page is not refreshed; return whether to try again. */
function showFailure(error, next = " Trying again.") {
  if (error.status === 401) {
    markStale("refresh", "You are signed out.", `This page is as of ${clockText(readAt)}.`, { text: "Sign in", href: signInUrl });
    return false;
  }
  const reason = error.status ? error.message : "the server cannot be reached";
  markStale("refresh", "Not refreshed.", `This page is as of ${clockText(readAt)}: ${reason}.${next}`);
  return true;
}
