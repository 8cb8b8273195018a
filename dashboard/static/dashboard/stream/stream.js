// The live stream of a page: subscriptions to data and to events. One connection serves all pages of the browser through
// a SharedWorker; where the browser has none, each page has its own.
import { learnServerTime } from "../ages.js";
import { showNewest, showStatus } from "./status.js";
import { Hub } from "./hub.js";

const VERSION = 1; // of the messages between page and worker: pages of an older version keep their own worker
const { user, liveUrl, liveEventsUrl } = document.body.dataset;

const subscriptions = new Map(); // id to DataSubscription
const listeners = []; // {channels, handlers}
const channels = new Set();
let ids = 0;
let send = null; // sends a message to the hub
let isOpen = false;

/**
 * Subscribe to newest values. Handlers: points(values, kind) with values {device, metric, ms, value, unit, late, skipped}
 * and the kind "snapshot", "gap" or "points"; missed(), where values between the last ones and the snapshot are missing.
 * Return a function that ends the subscription.
 */
export function subscribeData({ devices = null, metrics = null, everyMs = 500 }, handlers) {
  const id = String(++ids);
  const filter = { device_ids: devices, metric_names: metrics, max_frequency: everyMs };
  subscriptions.set(id, { filter, handlers, position: null, hadSnapshot: false });
  start();
  if (isOpen) subscribe(id);
  return () => {
    subscriptions.delete(id);
    send({ verb: "unsubscribe", id });
  };
}

/** Subscribe to channels. Handlers: event(event), figures(figures), and resync() to read the data of the page again. */
export function subscribeChannels(names, handlers) {
  listeners.push({ channels: new Set(names), handlers });
  for (const name of names) channels.add(name);
  start();
  if (isOpen) send({ verb: "channels", channels: [...channels] });
}

const retry = () => send({ verb: "retry" });

function subscribe(id) {
  const { filter, position } = subscriptions.get(id);
  send({ verb: "subscribe", id, filter: position ? { ...filter, resume_from: position } : filter });
}

function subscribeAll() {
  isOpen = true;
  if (channels.size) send({ verb: "channels", channels: [...channels] });
  for (const id of subscriptions.keys()) subscribe(id);
}

function receive(message) {
  send({ verb: "read" });
  if (message.type === "status") {
    isOpen &&= message.status.state === "live";
    showStatus(message.status, retry);
  } else if (message.type === "open") subscribeAll();
  else if (message.type === "lapsed") join();
  else if (message.id) receiveData(subscriptions.get(message.id), message.frame);
  else receiveFrame(message.frame);
}

function receiveFrame(frame) {
  if (frame.type === "ping") return learnServerTime(Date.parse(frame.time));
  if (frame.type === "error") return console.error("Live stream:", frame.detail);
  for (const { channels: names, handlers } of listeners) {
    if (frame.channel && !names.has(frame.channel)) continue;
    if (frame.type === "event") handlers.event?.(frame.event);
    else if (frame.type === "dashboard") handlers.figures?.(frame.figures);
    else if (frame.type === "resync") handlers.resync?.();
  }
}

function receiveData(subscription, frame) {
  if (!subscription) return; // it has just ended
  const { handlers } = subscription;
  subscription.position = frame.position ?? subscription.position;
  const points = frame.values.map(pointOf);
  // A snapshot may be old, and a gap is; neither says how far the stream is behind.
  if (frame.type === "points" && points.length) showNewest(points.reduce((newest, { ms }) => Math.max(newest, ms), 0));
  handlers.points(points, frame.type);
  if (frame.type !== "snapshot" || frame.more) return;
  if (subscription.hadSnapshot) handlers.missed?.();
  subscription.hadSnapshot = true;
}

function pointOf({ device_id: device, metric_name: metric, timestamp, value, unit, late = false, skipped = 0 }) {
  // Date.parse drops microseconds; the API returns them as fractions of milliseconds.
  const micros = Date.parse(`${timestamp.slice(0, 19)}Z`) * 1000 + Number(timestamp.slice(20, -1).padEnd(6, "0"));
  return { device, metric, ms: micros / 1000, value, unit, late, skipped };
}

// --- the hub ----------------------------------------------------------------------------------------

function join() {
  isOpen = false;
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  send({ verb: "join", urls: { socket: `${scheme}://${location.host}${liveUrl}`, events: liveEventsUrl } });
}

function start() {
  if (send) return;
  send = startWorker() ?? startHere();
  join();
  // A page on which somebody signs out, or of somebody else who has signed in; see page.js.
  new BroadcastChannel("telemetry user").onmessage = ({ data }) => { if (data !== user) send({ verb: "sign-out" }); };
  const wake = (networkChanged) => send({ verb: "wake", networkChanged });
  addEventListener("online", () => wake(true));
  document.addEventListener("visibilitychange", () => { if (!document.hidden) wake(false); });
  addEventListener("pagehide", () => send({ verb: "leave" }));
  addEventListener("pageshow", (event) => { if (event.persisted) join(); });
}

function startWorker() {
  if (!globalThis.SharedWorker) return null;
  try {
    // A worker of another user's session must not serve this page.
    const worker = new SharedWorker(new URL("stream_worker.js", import.meta.url), { type: "module", name: `telemetry ${VERSION} ${user}` });
    let isRunning = false;
    worker.onerror = () => {
      if (isRunning) return;
      send = startHere();
      join();
    };
    worker.port.onmessage = ({ data }) => {
      isRunning = true;
      receive(data);
    };
    return (message) => worker.port.postMessage(message);
  } catch {
    return null;
  }
}

/** Keep the connection in this page. */
function startHere() {
  const hub = new Hub();
  let number;
  return (message) => {
    if (message.verb === "join") number = hub.join(message.urls, (answer) => queueMicrotask(() => receive(answer)));
    else hub.receive(number, message);
  };
}
