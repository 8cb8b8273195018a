// The state of a chart: its lines, its time window, and whether it is live. Loads, zooms and moves; chart.js draws.
import { serverNow } from "./ages.js";
import { Chart } from "./chart.js";
import { listen } from "./gestures.js";
import { showIncomplete } from "./incomplete.js";
import { fill } from "./points_table.js";
import { Series } from "./series.js";
import { readRange } from "./telemetry_api.js";
import { clockText, dayText, pointText } from "./number_format.js";

const UNITS = { m: 60_000, h: 3_600_000, d: 86_400_000 };
const spanOf = (key) => parseInt(key, 10) * UNITS[key.slice(-1)];
const MIN_SPAN = 2000;
const MAX_SPAN = 400 * UNITS.d;
const CLOCK_TOLERANCE = 5 * UNITS.m; // a device's clock may be ahead
const STEP = 0.5; // how far "earlier" and "later" move, as a share of the window
const TABLE_MS = 10_000;
const RETRY_MS = 15_000; // after a failed request
const MIN_RELOAD_MS = 10_000; // between loads of values that the stream skipped
const RELOADS_PER_WINDOW = 100; // a wide window does not show a few skipped values

function windowText({ start, end }) {
  const seconds = end - start < 5 * UNITS.m;
  const until = dayText(start) === dayText(end) ? "" : `${dayText(end)} `;
  return `${dayText(start)} ${clockText(start, seconds)} to ${until}${clockText(end, seconds)}`;
}

export class ChartView extends EventTarget {
  /**
   * Event "settled": the lines are loaded and drawn.
   * startAtFirst: start the window at the first point rather than before it.
   * overlay: as in chart_overlay.js; its `window` is shown first, else the chart is live.
   */
  constructor(card, { startAtFirst = false, overlay = null } = {}) {
    super();
    this.card = card;
    this.device = card.dataset.device;
    this.metricsUrl = card.dataset.metricsUrl;
    this.startAtFirst = startAtFirst;
    this.parts = Object.fromEntries(["following", "follow", "legend", "points", "chart", "incomplete"].map((id) => [id, card.querySelector(`#${id}`)]));
    this.message = document.createElement("div");
    this.message.className = "chart-say";
    this.message.hidden = true;
    this.parts.chart.append(this.message);
    this.chart = new Chart(this.parts.chart, {
      hover: (ms) => this.hover(ms),
      zoom: (start, end) => this.fix(start, end),
      reset: () => this.follow(),
    }, overlay);
    this.series = [];
    this.fixed = overlay?.window ? { start: overlay.window[0], end: overlay.window[1] } : null;
    this.frozen = null;
    this.fromAddress();
    this.verbs = {
      earlier: () => this.move(-STEP), later: () => this.move(STEP),
      closer: () => this.zoom(0.5, 0.5), wider: () => this.zoom(2, 0.5),
      follow: () => this.follow(), table: () => this.toggleTable(),
    };
    listen(this.parts.chart, this.verbs, {
      move: (share) => this.move(share),
      zoom: (factor, at) => this.zoom(factor, at),
      touch: (px) => this.chart.plot?.setCursor({ left: px ?? -10, top: px === null ? -10 : 20 }),
    });
    for (const button of card.querySelectorAll("[data-chart]")) button.addEventListener("click", () => this.verbs[button.dataset.chart]());
    this.parts.follow.addEventListener("click", () => this.follow());
    card.querySelector("#ranges").addEventListener("change", (event) => { this.range = event.target.value; this.follow(); });
    setInterval(() => { if (!this.fixed) this.draw(); }, 1000);
  }

  fromAddress() {
    const address = new URLSearchParams(location.search);
    const keys = [...this.card.querySelectorAll("#ranges input")].map((input) => input.value);
    this.range = keys.includes(address.get("range")) ? address.get("range") : this.card.dataset.range;
    this.card.querySelector(`#ranges input[value="${this.range}"]`).checked = true;
    const [from, to] = [Date.parse(address.get("from")), Date.parse(address.get("to"))];
    if (to - from >= MIN_SPAN && to - from <= MAX_SPAN) this.fixed = { start: from, end: to };
  }

  toAddress() {
    const address = new URLSearchParams(location.search);
    const set = (key, value) => (value ? address.set(key, value) : address.delete(key));
    set("range", this.range === this.card.dataset.range ? null : this.range);
    set("from", this.fixed && new Date(Math.round(this.fixed.start)).toISOString());
    set("to", this.fixed && new Date(Math.round(this.fixed.end)).toISOString());
    history.replaceState(null, "", `${location.pathname}${address.size ? `?${address}` : ""}`);
  }

  get window() {
    if (this.fixed) return this.fixed;
    if (this.frozen) return this.frozen;
    const end = serverNow();
    let start = end - spanOf(this.range);
    if (this.startAtFirst) {
      const first = Math.min(...this.series.map((series) => series.times[0] ?? end));
      // At least one minute, so that the first points are not drawn over each other.
      start = Math.max(start, Math.min(first - 2000, end - UNITS.m));
    }
    return { start, end };
  }

  setMetrics(metrics) {
    const before = this.series;
    this.series = metrics.map((metric, i) => {
      const kept = before.find((series) => series.name === metric.name && series.number === i + 1);
      return kept ?? new Series(metric, i + 1);
    });
    this.chart.setSeries(this.series);
    this.drawLegend();
    return this.load();
  }

  async load() {
    this.loading?.abort();
    const loading = new AbortController();
    this.loading = loading;
    const { start, end } = this.fixed ?? { start: serverNow() - spanOf(this.range), end: serverNow() + CLOCK_TOLERANCE };
    const points = Math.min(2000, Math.max(300, Math.round(this.parts.chart.clientWidth)));
    // A zoomed window is loaded with margins, so that a small move shows data at once.
    const margin = this.fixed ? (end - start) / 2 : 0;
    const slow = setTimeout(() => { if (!this.series.some((series) => series.times.length)) this.showMessage("Loading"); }, 300);
    const missing = new Set();
    try {
      await Promise.all(this.series.map(async (series) => {
        series.arrived = [];
        const columns = await readRange(this.metricsUrl, series.name, start - margin, end + margin, points, loading.signal);
        series.replace(columns.times, columns.values);
        series.loadedUntil = columns.times.at(-1) ?? 0;
        for (const one of columns.incomplete ?? []) missing.add(one);
        if (!this.fixed) series.merge(series.arrived);
      }));
    } catch (error) {
      if (error.name === "AbortError") return;
      this.showFailure(error);
      return;
    } finally {
      clearTimeout(slow);
      if (this.loading === loading) this.loading = null;
    }
    this.failure = null;
    clearTimeout(this.retry);
    this.checkSnapshot();
    showIncomplete(this.parts.incomplete, [...missing]);
    this.loadedAt = serverNow();
    this.chart.shrink();
    this.draw();
    this.fillTable();
    this.dispatchEvent(new Event("settled"));
  }

  /** Say that values could not be loaded. The chart keeps the loaded ones, and the request is repeated. */
  showFailure(error) {
    const since = this.loadedAt ? ` since ${clockText(this.loadedAt)}` : "";
    const reason = error.status ? error.message : "the server cannot be reached";
    this.failure = `Chart not refreshed${since}: ${reason}.`;
    const button = Object.assign(document.createElement("button"), { type: "button", className: "btn s", textContent: "Try again" });
    button.addEventListener("click", () => this.load());
    this.parts.incomplete.replaceChildren(this.failure, button);
    this.parts.incomplete.hidden = false;
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.load(), RETRY_MS);
    this.draw();
  }

  reloadSoon() {
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.load(), 150);
  }

  /**
   * Add values of the stream: of a "snapshot", of the "gap" of an interruption, or new "points".
   * A fixed window ignores them; going live loads missing values.
   */
  add(points, kind) {
    if (this.fixed) return;
    for (const series of this.series) {
      const own = points.filter((point) => point.metric === series.name && typeof point.value !== "string");
      if (!own.length) continue;
      const added = own.map(({ ms, value }) => [ms, value]);
      if (this.loading) series.arrived.push(...added);
      if (kind === "snapshot") series.snapshotAt = own[0].ms;
      series.merge(added);
      series.dropBefore(serverNow() - 2 * spanOf(this.range));
      if (own.some((point) => point.skipped)) this.reloadSkipped();
      this.drawSoon();
    }
    if (kind === "snapshot" && !this.loading) this.checkSnapshot();
  }

  /** Load again if the stream began after the values were read: values between may be missing. */
  checkSnapshot() {
    const { start } = this.window;
    const hasHole = ({ snapshotAt, loadedUntil }) => snapshotAt >= start && loadedUntil !== undefined && loadedUntil < snapshotAt;
    const isIncomplete = this.series.some(hasHole);
    for (const series of this.series) series.snapshotAt = undefined;
    if (isIncomplete) this.load();
  }

  /** Load values that the stream skipped, now and then. */
  reloadSkipped() {
    if (this.skippedTimer) return;
    const pause = Math.max(MIN_RELOAD_MS, spanOf(this.range) / RELOADS_PER_WINDOW);
    this.skippedTimer = setTimeout(() => { this.skippedTimer = null; if (!this.fixed) this.load(); }, pause);
  }

  /** Draw once with the next frame. */
  drawSoon() {
    this.redraw ??= requestAnimationFrame(() => { this.redraw = null; this.draw(); });
  }

  draw() {
    const { window } = this;
    this.chart.draw(window);
    const some = this.series.some((series) => series.times.some((ms) => ms >= window.start && ms <= window.end));
    if (some) this.message.hidden = true;
    else if (this.failure) this.showMessage(this.failure, () => this.load());
    else this.showMessage(this.series.length ? "No data in this time range" : "Select a metric");
    this.state();
    if (!this.hovering) this.writeLegend(window.end);
    this.label(window);
    if (!this.fixed) this.fillTable(TABLE_MS);
  }

  state() {
    const { following, follow } = this.parts;
    follow.hidden = !this.fixed;
    const lost = document.body.classList.contains("stale");
    const text = this.failure ? "Not refreshed" : this.fixed ? windowText(this.fixed) : lost ? "Not live" : this.frozen ? "Paused while hovering" : "Live";
    if (following.textContent !== text) following.textContent = text;
    following.classList.toggle("paused", lost || Boolean(this.failure ?? this.fixed ?? this.frozen));
  }

  label({ start, end }) {
    const names = this.series.map((series) => series.name).join(", ");
    const text = `Chart of ${names || "no metric"}, ${windowText({ start, end })}`;
    if (this.parts.chart.getAttribute("aria-label") !== text) this.parts.chart.setAttribute("aria-label", text);
  }

  showMessage(text, retry) {
    this.message.hidden = false;
    this.message.replaceChildren(Object.assign(document.createElement("p"), { textContent: text }));
    if (!retry) return;
    const button = Object.assign(document.createElement("button"), { type: "button", className: "btn s", textContent: "Try again" });
    button.addEventListener("click", retry);
    this.message.append(button);
  }

  follow() {
    this.fixed = this.frozen = null;
    this.chart.shrink();
    this.toAddress();
    this.load();
  }

  fix(start, end) {
    const span = Math.min(MAX_SPAN, Math.max(MIN_SPAN, end - start));
    const middle = (start + end) / 2;
    this.fixed = { start: middle - span / 2, end: middle + span / 2 };
    this.frozen = null;
    this.chart.shrink();
    this.draw();
    this.toAddress();
    this.reloadSoon();
  }

  move(share) {
    const { start, end } = this.window;
    const by = Math.min(share * (end - start), serverNow() + CLOCK_TOLERANCE - end); // not beyond now
    if (by) this.fix(start + by, end + by);
  }

  zoom(factor, at) {
    const { start, end } = this.window;
    const still = start + at * (end - start);
    this.fix(still - (still - start) * factor, still + (end - still) * factor);
  }

  hover(ms) {
    this.hovering = ms !== null;
    if (this.hovering && !this.fixed) this.frozen ??= this.window;
    if (!this.hovering) this.frozen = null;
    this.state();
    this.writeLegend(ms ?? this.window.end);
  }

  toggleTable() {
    const { points } = this.parts;
    points.hidden = !points.hidden;
    this.card.querySelector('[data-chart="table"]').setAttribute("aria-expanded", String(!points.hidden));
    if (points.hidden) return;
    this.fillTable();
    points.focus();
  }

  /** Fill the table, at most once in `pauseMs` so that it can be read. */
  fillTable(pauseMs = 0) {
    const { points } = this.parts;
    if (points.hidden || Date.now() - (this.filledAt ?? 0) < pauseMs) return;
    this.filledAt = Date.now();
    fill(points, this.series, this.window);
  }

  drawLegend() {
    const template = (series) => {
      const item = document.createElement("li");
      const line = `<line ${series.number > 4 ? 'class="dash" ' : ""}x1="1" x2="19" y1="6" y2="6"/>`;
      item.innerHTML = `<svg class="swatch s${series.number}" viewBox="0 0 20 12" aria-hidden="true">${line}</svg>`;
      if (this.series.length > 1) item.append(`${series.number}`);
      item.append(document.createElement("span"), document.createElement("b"));
      item.children[1].textContent = series.name;
      return item;
    };
    this.parts.legend.replaceChildren(...this.series.map(template));
  }

  writeLegend(ms) {
    this.series.forEach((series, i) => {
      const value = this.parts.legend.children[i]?.querySelector("b");
      if (!value) return;
      const at = this.hovering || this.fixed ? series.at(ms) : series.values.at(-1) ?? null;
      const text = pointText(at, series);
      if (value.textContent !== text) value.textContent = text;
    });
  }
}
