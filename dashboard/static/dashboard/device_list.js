// The list of devices: new values and ages are written into its rows, whose order stays until somebody asks for newer ones.
import { setAge } from "./ages.js";
import { announce } from "./announce.js";
import { write } from "./flash.js";
import { reading } from "./number_format.js";
import { readPart, replaceParts } from "./parts.js";
import { refreshNow } from "./refresh.js";
import { subscribeData } from "./stream/stream.js";

export class DeviceList {
  /** all: whether to subscribe to all devices, listed or not; handlers: as of subscribeData. */
  constructor({ all = false, everyMs = 500 }, handlers = {}) {
    this.button = document.getElementById("newer");
    this.created = new Set();
    this.button.addEventListener("click", () => this.show());
    document.addEventListener("page-key", ({ detail: event }) => { if (event.key === "." && !this.button.hidden) this.show(); });
    this.subscribe = () => {
      this.rows = new Map([...document.querySelectorAll("#devices tr[data-device]")].map((row) => [row.dataset.device, row]));
      const devices = [...this.rows.keys()];
      if (!all && !devices.length) return () => {};
      return subscribeData({ devices: all ? null : devices, everyMs }, {
        missed() {},
        ...handlers,
        points: (points, kind) => { this.write(points); handlers.points?.(points, kind); },
      });
    };
    this.unsubscribe = this.subscribe();
  }

  write(points) {
    const lastSeen = new Map();
    for (const { device, metric, ms, value, unit, late } of points) {
      const row = this.rows.get(device);
      if (!row) continue;
      lastSeen.set(row, Math.max(lastSeen.get(row) ?? 0, ms));
      const shown = late ? null : row.querySelector(`[data-metric="${CSS.escape(metric)}"]`);
      if (!shown) continue;
      const [text, symbol] = reading(value, unit);
      if (write(shown, text) && shown.nextElementSibling) shown.nextElementSibling.textContent = symbol;
    }
    for (const [row, ms] of lastSeen) setAge(row.querySelector("[data-age]"), ms);
  }

  /** Take an event of a device. */
  apply({ type, data }) {
    const { device_id: device } = data;
    if (type === "device.created" && !this.rows.has(device)) this.created.add(device);
    else if (type === "device.deleted") this.created.delete(device);
    if (this.created.size) this.offer(this.created.size === 1 ? "1 new device" : `${this.created.size} new devices`);
    else if (type === "device.deleted" && this.rows.has(device)) this.offer("A device was deleted");
  }

  offer(text) {
    if (this.button.hidden) announce(text);
    this.button.hidden = false;
    this.button.textContent = `${text}. Show`;
  }

  /** Show the list as it is now. */
  async show() {
    await refreshNow(async () => {
      replaceParts(await readPart(), ["#device-summary", "#devices"]);
      this.button.hidden = true;
      this.created.clear();
      this.unsubscribe();
      this.unsubscribe = this.subscribe();
    });
  }
}
