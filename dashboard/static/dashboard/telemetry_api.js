// Requests to the API, with the session of the page. Addresses come from data attributes of the page.
const { loginUrl } = document.body.dataset;

export class ApiError extends Error {
  constructor(text, status, errors = []) {
    super(text);
    this.status = status;
    this.errors = errors; // [{field, detail}]
  }
}

export const getJson = (url, signal) => callJson(url, { headers: { Accept: "application/json" }, signal });

/** POST with the CSRF token of a form of the page. */
export function postJson(url, body) {
  const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
  const headers = { Accept: "application/json", "Content-Type": "application/json", "X-CSRFToken": token };
  return callJson(url, { method: "POST", headers, body: JSON.stringify(body) });
}

/** Return the address of the sign-in page, which leads back to this page. */
export const signInUrl = () => `${loginUrl}?next=${encodeURIComponent(location.pathname + location.search)}`;

/** Return the response with a rendered part of a page. */
export const getPart = (url) => call(url, {});

const callJson = async (url, options) => (await call(url, options)).json();

async function call(url, options) {
  const response = await fetch(url, { ...options, credentials: "same-origin" });
  if (response.status === 401 || (response.redirected && new URL(response.url).pathname === loginUrl)) {
    throw new ApiError("you are signed out", 401);
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    const text = typeof problem.detail === "string" ? problem.detail : `HTTP ${response.status}`;
    throw new ApiError(text, response.status, problem.errors);
  }
  return response;
}

/** Return one series as {times: ms[], values: [], unit}. With `maxPoints` the server keeps the extremes. */
export async function readRange(metricsUrl, metric, startMs, endMs, maxPoints, signal) {
  const query = new URLSearchParams({
    start_time: new Date(startMs).toISOString(),
    end_time: new Date(endMs).toISOString(),
    max_points: String(maxPoints),
    columns: "true",
  });
  try {
    return await getJson(`${metricsUrl}/${encodeURIComponent(metric)}/range?${query}`, signal);
  } catch (error) {
    if (error.status === 404) return { times: [], values: [], unit: null };
    throw error;
  }
}

/** Return what the detector expected and marked: {band: [{timestamp, low, high}], marks: [{timestamp, value}]}. */
export function readAnomalies(metricsUrl, metric, startMs, endMs) {
  const query = new URLSearchParams({ start_time: new Date(startMs).toISOString(), end_time: new Date(endMs).toISOString() });
  return getJson(`${metricsUrl}/${encodeURIComponent(metric)}/anomalies?${query}`);
}

/** Return the last hour and today's range of metrics of a device, for the table of newest values. */
export function readRecent(recentUrl, metrics) {
  const query = new URLSearchParams();
  for (const metric of metrics) query.append("metric", metric);
  return getJson(`${recentUrl}?${query}`);
}
