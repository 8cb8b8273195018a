// Reading measurements over HTTP, with the session of the page.
const BASE = "/api/v1/telemetry";

export class ApiError extends Error {
  constructor(text, status, errors = []) {
    super(text);
    this.status = status;
    this.errors = errors; // [{field, detail}]
  }
}

export const getJson = (url, signal) => callJson(url, { headers: { Accept: "application/json" }, signal });

/** With the page's own token against forgery, which a form of the page holds. */
export function postJson(url, body) {
  const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
  const headers = { Accept: "application/json", "Content-Type": "application/json", "X-CSRFToken": token };
  return callJson(url, { method: "POST", headers, body: JSON.stringify(body) });
}

async function callJson(url, options) {
  const answer = await fetch(url, { ...options, credentials: "same-origin" });
  if (answer.status === 401 || (answer.redirected && answer.url.includes("/login/"))) {
    location.href = `/login/?next=${encodeURIComponent(location.pathname + location.search)}`;
    throw new ApiError("Signed out", 401);
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    const text = typeof problem.detail === "string" ? problem.detail : `The server answered ${answer.status}`;
    throw new ApiError(text, answer.status, problem.errors);
  }
  return answer.json();
}

/** Columns of one series: {times: ms[], values: [], unit}. The server keeps the lowest and highest of every stretch. */
export async function readRange(device, metric, startMs, endMs, maxPoints, signal) {
  const query = new URLSearchParams({
    start_time: new Date(startMs).toISOString(),
    end_time: new Date(endMs).toISOString(),
    max_points: String(maxPoints),
    columns: "true",
  });
  const path = `/devices/${encodeURIComponent(device)}/metrics/${encodeURIComponent(metric)}/range`;
  try {
    return await getJson(`${BASE}${path}?${query}`, signal);
  } catch (error) {
    if (error.status === 404) return { times: [], values: [], unit: null };
    throw error;
  }
}

/** What was expected of a series, and what was strange: {band: [{timestamp, low, high}], marks: [{timestamp, value}]}. */
export function readAnomalies(device, metric, startMs, endMs) {
  const query = new URLSearchParams({ start_time: new Date(startMs).toISOString(), end_time: new Date(endMs).toISOString() });
  return getJson(`${BASE}/devices/${encodeURIComponent(device)}/metrics/${encodeURIComponent(metric)}/anomalies?${query}`);
}

/** The last hour and today's range of the metrics of a device, for the table of newest values. */
export function readRecent(device, metrics) {
  const midnight = new Date();
  midnight.setHours(0, 0, 0, 0);
  const query = new URLSearchParams({ today: String(midnight / 1000) });
  for (const metric of metrics) query.append("metric", metric);
  return getJson(`/recent/${encodeURIComponent(device)}/?${query}`);
}
