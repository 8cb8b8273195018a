// The chart as a table, for those who cannot see a canvas and for those who want the numbers.
import { momentText, pointText } from "./values.js";

const MOST = 200;

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
  const caption = cell("caption", newest.length > MOST ? `The newest ${MOST} of ${newest.length.toLocaleString("en")} moments in view` : `${newest.length} moments in view`, "vh");
  const head = document.createElement("tr");
  head.append(cell("th", "Time"), ...series.map((line) => cell("th", line.name, "num")));
  table.append(caption, document.createElement("thead"), document.createElement("tbody"));
  table.tHead.append(head);
  for (const ms of newest.slice(0, MOST)) {
    const row = document.createElement("tr");
    row.append(cell("td", momentText(ms), "nw"));
    const values = moments.get(ms);
    series.forEach((line, column) => row.append(cell("td", values[column] === undefined ? "" : pointText(values[column], line), "num")));
    table.tBodies[0].append(row);
  }
  element.replaceChildren(table);
}
