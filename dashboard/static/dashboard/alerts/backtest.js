// What a backtest found: how many alerts, the values with the limit and every alert, and each of them in a table.
import { Chart } from "../chart.js";
import { Series } from "../series.js";
import { durationText, momentText, numberText } from "../values.js";

const ROWS = 50;

export class Backtest {
  constructor(card) {
    this.card = card;
    this.chart = new Chart(card.querySelector("#tried-chart"), { hover() {}, zoom() {}, reset() {} });
  }

  say(text) {
    this.card.querySelector("#tried-say").textContent = text;
  }

  show(answer, start, end, level) {
    const { firings } = answer;
    const write = (name, number) => { this.card.querySelector(`[data-${name}]`).textContent = number.toLocaleString("en"); };
    write("firings", answer.firings_count);
    write("notifications", answer.notifications);
    write("devices", new Set(answer.subjects.filter((one) => one.firings).map((one) => one.device_id)).size);
    write("points", answer.points);
    const lack = answer.incomplete.length ? ` Incomplete: ${answer.incomplete.join("; ")}.` : "";
    this.say((firings.length ? `Replayed in ${durationOf(answer.milliseconds)}.` : `It would not have fired. Replayed in ${durationOf(answer.milliseconds)}.`) + lack);
    this.card.querySelector("#tried").hidden = false;
    this.draw(answer, start, end, level);
    this.list(firings, end);
  }

  draw(answer, start, end, level) {
    const element = this.card.querySelector("#tried-chart");
    const line = answer.chart;
    element.hidden = !line;
    this.card.querySelector("#tried-of").textContent = line ? `${line.metric_name} of ${line.device_id}` : "";
    if (!line) return;
    const series = new Series({ name: line.metric_name, kind: "number", unit: "" }, 1);
    series.replace(line.times, line.values);
    const own = answer.firings.filter((one) => one.device_id === line.device_id && one.metric_name === line.metric_name);
    const limit = (value, text, clear = false) => (typeof value === "number" ? [{ value, text: `${text} ${numberText(value)}`, clear }] : []);
    this.chart.overlay = {
      limits: [...limit(line.threshold, "Limit"), ...limit(line.clear_threshold, "Well again at", true)],
      band: null,
      spans: own.map((one) => ({ start: Date.parse(one.start_time), end: one.end_time ? Date.parse(one.end_time) : null, level })),
    };
    this.chart.window = { start, end };
    this.chart.setSeries([series]);
  }

  list(firings, end) {
    const table = this.card.querySelector("#firings");
    table.hidden = !firings.length;
    table.tBodies[0].replaceChildren(...firings.slice(0, ROWS).map((one) => {
      const from = Date.parse(one.start_time);
      const lasted = durationText(((one.end_time ? Date.parse(one.end_time) : end) - from) / 1000);
      const row = document.createElement("tr");
      row.append(cell("th", momentText(from)), cell("td", one.device_id), cell("td", one.end_time ? lasted : `${lasted} so far`, "num"), cell("td", typeof one.peak === "number" ? numberText(one.peak) : "no data", "num p2"));
      return row;
    }));
  }
}

function cell(tag, text, className = "") {
  const made = Object.assign(document.createElement(tag), { textContent: text, className });
  if (tag === "th") made.scope = "row";
  return made;
}

const durationOf = (ms) => (ms < 1000 ? `${Math.round(ms)}\u00a0ms` : `${(ms / 1000).toFixed(1)}\u00a0s`);
