// The list of devices.
import { rowsByDevice, update } from "./device_rows.js";
import { Live } from "./live.js";

const rows = rowsByDevice();
if (rows.size) {
  const live = new Live({ devices: [...rows.keys()], everyMs: 1000 });
  live.addEventListener("points", ({ detail }) => update(rows, detail));
}
if (location.hash === "#search") document.getElementById("search").focus();
