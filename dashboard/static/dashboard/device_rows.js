// Updates rows of devices from the live stream.
import { setAge } from "./ages.js";
import { write } from "./flash.js";
import { reading } from "./number_format.js";

export function rowsByDevice() {
  return new Map([...document.querySelectorAll("#devices tr[data-device]")].map((row) => [row.dataset.device, row]));
}

/** Write new values and ages into the rows; the order of the rows stays. */
export function update(rows, points) {
  const lastSeen = new Map();
  for (const [device, metric, ms, value, unit] of points) {
    const row = rows.get(device);
    if (!row) continue;
    lastSeen.set(row, Math.max(lastSeen.get(row) ?? 0, ms));
    const shown = row.querySelector(`[data-metric="${CSS.escape(metric)}"]`);
    if (!shown) continue;
    const [text, symbol] = reading(value, unit);
    if (write(shown, text) && shown.nextElementSibling) shown.nextElementSibling.textContent = symbol;
  }
  for (const [row, ms] of lastSeen) setAge(row.querySelector("[data-age]"), ms);
}
