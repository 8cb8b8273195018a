// Shows the result of a backtest: the counts, a chart with the threshold and the alerts, and a table of the alerts.
import { Chart } from "../chart.js";
import { Series } from "../series.js";
import { durationText, momentText, numberText } from "../number_format.js";

const MAX_ROWS = 50;

export class Backtest {
  constructor(card) {
    this.card = card;
    this.chart = new Chart(card.querySelector("#backtest-chart"), { hover() {}, zoom() {}, reset() {} });
  }

  showStatus(text) {
    this.card.querySelector("#backtest-status").textContent = text;
  }

  show(result, start, end, level) {
    const { firings } = result;
    const write = (name, number) => { this.card.querySelector(`[data-${name}]`).textContent = number.toLocaleString("en"); };
    write("firings", result.firings_count);
    write("notifications", result.notifications);
    write("devices", new Set(result.subjects.filter(({ firings: count }) => count).map((subject) => subject.device_id)).size);
    write("points", result.points);
    this.showPerMonth(result.notifications_per_month);
    const incomplete = result.incomplete.length ? ` Incomplete: ${result.incomplete.join("; ")}.` : "";
    const outcome = firings.length ? "" : "No alert would have opened. ";
    this.showStatus(`${outcome}Replayed in ${durationOf(result.milliseconds)}.${incomplete}`);
    this.card.querySelector("#backtest-result").hidden = false;
    this.draw(result, start, end, level);
    this.list(firings, end);
  }

  showPerMonth(expected) {
    const line = this.card.querySelector("#per-month");
    line.hidden = !expected;
    if (!expected) return;
    const texts = Object.entries(expected).map(([sensitivity, count]) => `${sensitivity} ${perMonthText(count)}`);
    line.textContent = `Expected notifications per month: ${texts.join(", ")}.`;
  }

  draw(result, start, end, level) {
    const element = this.card.querySelector("#backtest-chart");
    const line = result.chart;
    element.hidden = !line;
    this.card.querySelector("#backtest-series").textContent = line ? `${line.metric_name} of ${line.device_id}` : "";
    if (!line) return;
    const series = new Series({ name: line.metric_name, kind: "number", unit: "" }, 1);
    series.replace(line.times, line.values);
    const drawn = firingsOf(result, line);
    const thresholdLine = (value, text, recovery = false) =>
      typeof value === "number" ? [{ value, text: `${text} ${numberText(value)}`, recovery }] : [];
    this.chart.overlay = {
      thresholds: [...thresholdLine(line.threshold, "Threshold"), ...thresholdLine(line.clear_threshold, "Recovery threshold", true)],
      band: null,
      spans: drawn.map((firing) => ({ start: Date.parse(firing.start_time), end: firing.end_time ? Date.parse(firing.end_time) : null, level })),
    };
    this.chart.window = { start, end };
    this.chart.setSeries([series]);
  }

  list(firings, end) {
    const table = this.card.querySelector("#firings");
    table.hidden = !firings.length;
    table.tBodies[0].replaceChildren(...firings.slice(0, MAX_ROWS).map((firing) => {
      const from = Date.parse(firing.start_time);
      const duration = durationText(((firing.end_time ? Date.parse(firing.end_time) : end) - from) / 1000);
      const row = document.createElement("tr");
      row.append(
        cell("th", momentText(from)),
        cell("td", firing.device_id),
        cell("td", firing.end_time ? duration : `${duration} (open)`, "num"),
        cell("td", valueText(firing.peak ?? firing.value), "num p2"),
      );
      return row;
    }));
  }
}

const firingsOf = (result, line) =>
  result.firings.filter((firing) => firing.device_id === line.device_id && firing.metric_name === line.metric_name);

function valueText(value) {
  if (typeof value === "number") return numberText(value);
  return value === null ? "no data" : String(value);
}

function cell(tag, text, className = "") {
  const element = Object.assign(document.createElement(tag), { textContent: text, className });
  if (tag === "th") element.scope = "row";
  return element;
}

const perMonthText = (count) => (count >= 10 ? Math.round(count).toLocaleString("en") : count.toFixed(1));

const durationOf = (ms) => (ms < 1000 ? `${Math.round(ms)}\u00a0ms` : `${(ms / 1000).toFixed(1)}\u00a0s`);
