// The chart as a table, for screen readers and for exact values.
import { momentText, pointTexts } from "./number_format.js";

const MAX_ROWS = 200;

function cell(tag, text, className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  if (tag === "th") made.scope = "col";
  return made;
}

export function fill(element, series, { start, end }) {
  const moments = new Map();
  series.forEach((line, column) => {
    for (let i = line.times.length - 1; i >= 0 && line.times[i] >= start; i--) {
      const ms = line.times[i];
      if (ms > end) continue;
      if (!moments.has(ms)) moments.set(ms, []);
      moments.get(ms)[column] = line.values[i];
    }
  });
  const newest = [...moments.keys()].sort((a, b) => b - a);
  const table = document.createElement("table");
  table.className = "tbl tight";
  const count = newest.length > MAX_ROWS ? `The newest ${MAX_ROWS} of ${newest.length.toLocaleString("en")}` : newest.length;
  const caption = cell("caption", `${count} points in time in view`, "vh");
  const head = document.createElement("tr");
  head.append(cell("th", "Time"), ...series.map((line) => cell("th", line.name, "num")));
  table.append(caption, document.createElement("thead"), document.createElement("tbody"));
  table.tHead.append(head);
  const shown = newest.slice(0, MAX_ROWS);
  const columns = series.map((line, column) => pointTexts(shown.map((ms) => moments.get(ms)[column]), line));
  shown.forEach((ms, at) => {
    const row = document.createElement("tr");
    row.append(cell("td", momentText(ms), "nw"), ...columns.map((texts) => cell("td", texts[at], "num")));
    table.tBodies[0].append(row);
  });
  element.replaceChildren(table);
}
