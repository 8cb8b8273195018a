// Rows of devices, kept true by the stream.
import { setAge } from "./ages.js";
import { write } from "./flash.js";
import { reading } from "./values.js";

export function rowsByDevice() {
  return new Map([...document.querySelectorAll("#devices tr[data-device]")].map((row) => [row.dataset.device, row]));
}

/** Row order never changes under a hand; only numbers, ages and states do. */
export function update(rows, points) {
  const heard = new Map();
  for (const [device, metric, ms, value, unit] of points) {
    const row = rows.get(device);
    if (!row) continue;
    heard.set(row, Math.max(heard.get(row) ?? 0, ms));
    const shown = row.querySelector(`[data-metric="${CSS.escape(metric)}"]`);
    if (!shown) continue;
    const [text, symbol] = reading(value, unit);
    if (write(shown, text) && shown.nextElementSibling) shown.nextElementSibling.textContent = symbol;
  }
  for (const [row, ms] of heard) setAge(row.querySelector("[data-age]"), ms);
}
