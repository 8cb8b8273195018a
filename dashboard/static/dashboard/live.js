// The live stream of a page: one socket, reconnected when it breaks; its state is shown in the page's frame.
import { learnServerTime, serverNow } from "./ages.js";
import { markFresh, markStale } from "./stale.js";
import { signIn } from "./telemetry_api.js";
import { clockText, durationText } from "./number_format.js";

const TIMEOUT_MS = 12_000; // without a message; heartbeats are sent every 5 s
const MAX_WAIT_MS = 30_000;
const SIGNED_OUT = 4401;

export class Live extends EventTarget {
  /** Events: "points" (detail: [[device, metric, ms, value, unit], …]), and "back" after an interruption (detail: ms of the last message). */
  constructor({ devices = null, metrics = null, everyMs = 500 }) {
    super();
    this.subscription = { type: "subscribe", devices, metrics, max_frequency: everyMs };
    this.failures = 0;
    this.receivedAt = serverNow();
    this.lost = false;
    this.foot = document.getElementById("live");
    this.connect();
    setInterval(() => this.watch(), 1000);
    // After a sleep, reconnect at once.
    for (const wake of ["online", "visibilitychange"]) {
      (wake === "online" ? window : document).addEventListener(wake, () => { if (this.lost && !document.hidden) this.retryAt = 0; });
    }
    addEventListener("pagehide", () => this.socket?.close());
    addEventListener("pageshow", (event) => { if (event.persisted) this.retryAt = 0; });
  }

  connect() {
    this.retryAt = null;
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${document.body.dataset.liveUrl}`);
    this.socket = socket;
    this.openedAt = Date.now();
    this.messageAt = Date.now();
    socket.addEventListener("open", () => socket.send(JSON.stringify(this.subscription)));
    socket.addEventListener("message", (event) => { if (socket === this.socket) this.receive(JSON.parse(event.data)); });
    socket.addEventListener("close", (event) => { if (socket === this.socket) this.close(event.code); });
  }

  receive(message) {
    this.messageAt = Date.now();
    if (message.time_ms) learnServerTime(message.time_ms);
    if (message.type === "error") console.error("Live stream:", message.detail);
    if (message.type === "subscribed") this.opened();
    this.receivedAt = serverNow();
    // The snapshot may be newer than the page, but its age is no measure of delay.
    if (message.type === "snapshot") this.dispatchEvent(new CustomEvent("points", { detail: message.points }));
    if (message.type !== "points") return;
    const newest = message.points.reduce((ms, point) => Math.max(ms, point[2]), 0);
    this.behind = Math.max(0, serverNow() - newest);
    this.pointsAt = Date.now();
    this.dispatchEvent(new CustomEvent("points", { detail: message.points }));
    this.show();
  }

  opened() {
    this.failures = 0;
    if (!this.lost) return this.show();
    this.lost = false;
    markFresh("live");
    this.show();
    this.dispatchEvent(new CustomEvent("back", { detail: this.completeUntil }));
  }

  close(code) {
    if (code === SIGNED_OUT) {
      signIn();
      return;
    }
    if (!this.lost) this.completeUntil = this.receivedAt;
    this.lost = true;
    this.socket = null;
    // Half of the wait is random, so that a thousand pages do not reconnect in the same second.
    const wait = Math.min(MAX_WAIT_MS, 1000 * 2 ** this.failures++);
    this.retryAt = Date.now() + wait * (0.5 + Math.random() / 2);
    this.show();
  }

  watch() {
    if (this.retryAt !== null && Date.now() >= this.retryAt) this.connect();
    else if (this.socket && Date.now() - this.messageAt > TIMEOUT_MS) {
      const broken = this.socket;
      this.socket = null;
      broken.close();
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
      // A short interruption is not worth a message.
      if (this.failures < 2 && wait < 2) return;
      const retry = wait ? ` Reconnecting in ${wait} s.` : " Reconnecting.";
      markStale("live", "Live paused.", `Data is complete up to ${clockText(this.completeUntil)}.${retry}`);
      return;
    }
    const idle = (Date.now() - (this.pointsAt ?? this.openedAt)) / 1000;
    if (idle > 15) text.textContent = `Live, no data for ${durationText(idle)}`;
    else if (this.behind === undefined) text.textContent = "Live";
    else {
      const seconds = this.behind / 1000;
      text.textContent = `Live, ${seconds < 10 ? `${seconds.toFixed(1)}\u00a0s` : durationText(seconds)} behind`;
    }
  }
}

let announcedAt = 0;
let pending;
/** Announce a text to screen readers, at most every 10 s; the newest replaces older ones. */
export function announce(text) {
  clearTimeout(pending);
  const write = () => { announcedAt = Date.now(); document.getElementById("announce").textContent = text; };
  const wait = announcedAt + 10_000 - Date.now();
  if (wait <= 0) write();
  else pending = setTimeout(write, wait);
}
