// The live stream of this page: one socket, opened again when it breaks, with its state shown in the frame.
import { learnServerTime, serverNow } from "./ages.js";
import { clockText, durationText } from "./values.js";

const QUIET_MS = 12_000; // heartbeats come every 5 s: after this the way is broken, whatever the socket says
const LONGEST_WAIT_MS = 30_000;
const SIGNED_OUT = 4401;

export class Live extends EventTarget {
  /** Events: "points" (detail: [[device, metric, ms, value, unit], …]) and "back" after an interruption (detail: ms of the last news). */
  constructor({ devices = null, metrics = null, everyMs = 500 }) {
    super();
    this.wanted = { type: "subscribe", devices, metrics, max_frequency: everyMs };
    this.failures = 0;
    this.heardAt = serverNow();
    this.lost = false;
    this.foot = document.getElementById("live");
    this.strap = document.getElementById("strap");
    this.connect();
    setInterval(() => this.watch(), 1000);
    // A page that was asleep need not wait for its turn.
    for (const wake of ["online", "visibilitychange"]) {
      (wake === "online" ? window : document).addEventListener(wake, () => { if (this.lost && !document.hidden) this.retryAt = 0; });
    }
    addEventListener("pagehide", () => this.socket?.close());
    addEventListener("pageshow", (event) => { if (event.persisted) this.retryAt = 0; });
  }

  connect() {
    this.retryAt = null;
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws/live`);
    this.socket = socket;
    this.openedAt = Date.now();
    this.messageAt = Date.now();
    socket.addEventListener("open", () => socket.send(JSON.stringify(this.wanted)));
    socket.addEventListener("message", (event) => { if (socket === this.socket) this.hear(JSON.parse(event.data)); });
    socket.addEventListener("close", (event) => { if (socket === this.socket) this.close(event.code); });
  }

  hear(message) {
    this.messageAt = Date.now();
    if (message.time_ms) learnServerTime(message.time_ms);
    if (message.type === "error") console.error("Live stream:", message.detail);
    if (message.type === "subscribed") this.opened();
    this.heardAt = serverNow();
    // What was true as the stream began: news to a page that was rendered a moment before, but no measure of delay.
    if (message.type === "snapshot") this.dispatchEvent(new CustomEvent("points", { detail: message.points }));
    if (message.type !== "points") return;
    const newest = message.points.reduce((ms, point) => Math.max(ms, point[2]), 0);
    this.behind = Math.max(0, serverNow() - newest);
    this.newsAt = Date.now();
    this.dispatchEvent(new CustomEvent("points", { detail: message.points }));
    this.show();
  }

  opened() {
    this.failures = 0;
    if (!this.lost) return this.show();
    this.lost = false;
    document.body.classList.remove("stale");
    this.strap.hidden = true;
    this.show();
    this.dispatchEvent(new CustomEvent("back", { detail: this.trueUpTo }));
  }

  close(code) {
    if (code === SIGNED_OUT) {
      location.href = `/login/?next=${encodeURIComponent(location.pathname + location.search)}`;
      return;
    }
    if (!this.lost) this.trueUpTo = this.heardAt;
    this.lost = true;
    this.socket = null;
    // Half of the wait is chance, so that a thousand pages do not come back in the same second.
    const wait = Math.min(LONGEST_WAIT_MS, 1000 * 2 ** this.failures++);
    this.retryAt = Date.now() + wait * (0.5 + Math.random() / 2);
    this.show();
  }

  watch() {
    if (this.retryAt !== null && Date.now() >= this.retryAt) this.connect();
    else if (this.socket && Date.now() - this.messageAt > QUIET_MS) {
      const silent = this.socket;
      this.socket = null;
      silent.close();
      this.close(0);
    }
    this.show();
  }

  show() {
    const text = this.foot.querySelector("span");
    this.foot.hidden = false;
    this.foot.classList.toggle("lost", this.lost);
    if (this.lost) {
      const wait = this.retryAt === null ? 0 : Math.max(0, Math.ceil((this.retryAt - Date.now()) / 1000));
      text.textContent = "Live paused";
      // One failure is often over before it can be read.
      if (this.failures < 2 && wait < 2) return;
      document.body.classList.add("stale");
      this.strap.hidden = false;
      const again = wait ? ` Trying again in ${wait} s.` : " Trying again.";
      this.strap.querySelector("span").replaceChildren(
        Object.assign(document.createElement("b"), { textContent: "Live paused." }),
        ` You see data up to ${clockText(this.trueUpTo)}.${again}`,
      );
      return;
    }
    const quiet = (Date.now() - (this.newsAt ?? this.openedAt)) / 1000;
    if (quiet > 15) text.textContent = `Live, no news for ${durationText(quiet)}`;
    else if (this.behind === undefined) text.textContent = "Live";
    else text.textContent = this.behind < 10_000 ? `Live, ${(this.behind / 1000).toFixed(1)}\u00a0s behind` : `Live, ${durationText(this.behind / 1000)} behind`;
  }
}

let saidAt = 0;
let pending;
/** Tells screen readers, at most every 10 s, and always the newest. */
export function announce(text) {
  clearTimeout(pending);
  const say = () => { saidAt = Date.now(); document.getElementById("announce").textContent = text; };
  const wait = saidAt + 10_000 - Date.now();
  if (wait <= 0) say();
  else pending = setTimeout(say, wait);
}
