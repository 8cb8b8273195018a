// Requests that refresh a page while it is visible; the page says since when they fail.
import { serverNow } from "./ages.js";
import { markFresh, markStale } from "./stale.js";
import { clockText } from "./number_format.js";

let refreshedAt = serverNow();

/** Return the result of a request; null where it failed, which the page shows. */
export async function refreshing(request) {
  try {
    const result = await request();
    refreshedAt = serverNow();
    markFresh("refresh");
    return result;
  } catch (error) {
    const reason = error.status ? error.message : "the server cannot be reached";
    if (error.status !== 401) markStale("refresh", "Not refreshed.", `This page is as of ${clockText(refreshedAt)}: ${reason}. Trying again.`);
    return null;
  }
}
