// Shares one connection between pages. Pages subscribe to channels and to data. Each page knows up to where it has the
// data, and subscribes again with that position whenever the connection opens; the position of events is kept here.
import { Connection } from "./connection.js";

const MAX_UNREAD = 100; // messages to a page that does not read: the browser has frozen it, or it has crashed
const MAX_EVENT_IDS = 1000; // among which a repeated event is noticed
const SIGNED_OUT = 4001;
const FIGURES = "dashboard"; // the one channel without events

export class Hub {
  constructor() {
    this.pages = new Map(); // number to {post, unread, channels, awaited: channels without an answer, ids: of data subscriptions}
    this.numbers = 0;
    this.reset();
    this.eventPosition = null;
    this.eventIds = new Set();
  }

  /** Forget what the server knew of the last connection. */
  reset() {
    this.subscribed = new Set(); // channels
    this.figures = null; // the newest frame, for pages that subscribe later
  }

  /** Add a page, to which `post` sends messages; return its number. */
  join(urls, post) {
    const number = ++this.numbers;
    this.pages.set(number, { post, unread: 0, channels: new Set(), awaited: new Set(), ids: new Set() });
    if (!this.connection) {
      this.connection = new Connection(urls, {
        opened: () => this.opened(),
        frame: (frame) => this.dispatch(frame),
        status: (status) => { for (const page of [...this.pages.keys()]) this.post(page, { type: "status", status }); },
      });
      return number;
    }
    // The page was just served, so the reason of a final close may be gone: somebody has signed in again.
    if (this.connection.status.state === "stopped") this.connection.retry();
    else this.connection.wake();
    this.post(number, { type: "status", status: this.connection.status });
    if (this.connection.isOpen) this.post(number, { type: "open" });
    return number;
  }

  receive(number, { verb, ...message }) {
    const page = this.pages.get(number);
    if (verb === "wake") this.connection.wake(message);
    else if (verb === "retry") this.connection.retry();
    else if (verb === "sign-out") this.connection.stop(SIGNED_OUT);
    else if (!page) return;
    else if (verb === "read") page.unread--;
    else if (verb === "leave") this.remove(number);
    else if (verb === "channels") this.addChannels(page, message.channels);
    else if (verb === "subscribe") this.subscribe(page, `${number}.${message.id}`, message.filter);
    else if (verb === "unsubscribe") this.unsubscribe(page, `${number}.${message.id}`);
  }

  subscribe(page, id, filter) {
    page.ids.add(id);
    this.connection.send({ type: "subscribe", subscription: id, ...filter });
  }

  unsubscribe(page, id) {
    page.ids.delete(id);
    this.connection.send({ type: "unsubscribe", subscription: id });
  }

  addChannels(page, channels) {
    for (const name of channels) {
      if (page.channels.has(name)) continue;
      page.channels.add(name);
      page.awaited.add(name);
    }
    const missing = [...page.awaited].filter((name) => !this.subscribed.has(name));
    if (missing.length) this.connection.send({ type: "subscribe", channels: missing });
    this.answer(page);
  }

  /** Tell a page once its channels are subscribed: from here on it misses no event, so it reads its data again. */
  answer(page) {
    const ready = [...page.awaited].filter((name) => this.subscribed.has(name));
    for (const name of ready) page.awaited.delete(name);
    if (ready.some((name) => name !== FIGURES)) this.postFrame(page, { type: "resync", channel: null, reason: "subscribed" });
    if (ready.includes(FIGURES) && this.figures) this.postFrame(page, this.figures);
  }

  opened() {
    this.reset();
    const channels = new Set();
    for (const page of this.pages.values()) {
      page.ids.clear();
      for (const name of page.channels) {
        channels.add(name);
        // With the position of the last event, the server repeats what was missed.
        if (!this.eventPosition) page.awaited.add(name);
      }
    }
    const resume = this.eventPosition ? { resume_from: this.eventPosition } : {};
    if (channels.size) this.connection.send({ type: "subscribe", channels: [...channels], ...resume });
    for (const number of [...this.pages.keys()]) this.post(number, { type: "open" });
  }

  dispatch(frame) {
    if (frame.type === "event") this.dispatchEvent(frame);
    else if (frame.type === "subscribed") {
      this.subscribed = new Set(frame.channels);
      // While missed events are on their way, only their own positions say which have arrived.
      this.eventPosition ??= frame.position ?? null;
      for (const page of this.pages.values()) this.answer(page);
    } else if (frame.subscription) {
      const [number, id] = frame.subscription.split(".");
      const page = this.pages.get(Number(number));
      if (page?.ids.has(frame.subscription)) this.post(Number(number), { type: "frame", id, frame });
    } else {
      if (frame.type === "dashboard") this.figures = frame;
      // A resync without a channel is one of all.
      for (const page of this.pages.values()) if (!frame.channel || page.channels.has(frame.channel)) this.postFrame(page, frame);
    }
  }

  dispatchEvent(frame) {
    this.eventPosition = frame.position ?? this.eventPosition;
    if (this.eventIds.has(frame.event.id)) return;
    this.eventIds.add(frame.event.id);
    if (this.eventIds.size > MAX_EVENT_IDS) this.eventIds.delete(this.eventIds.values().next().value);
    for (const page of this.pages.values()) if (page.channels.has(frame.channel)) this.postFrame(page, frame);
  }

  postFrame(page, frame) {
    for (const [number, one] of this.pages) if (one === page) this.post(number, { type: "frame", frame });
  }

  /** Send a message; a page that does not read is dropped, and joins again when it reads that. */
  post(number, message) {
    const page = this.pages.get(number);
    if (!page) return;
    const isPart = message.frame?.more; // a page may be slower than the parts of one answer
    if (!isPart && ++page.unread > MAX_UNREAD) {
      this.remove(number);
      page.post({ type: "lapsed" });
    } else page.post(message);
  }

  remove(number) {
    const page = this.pages.get(number);
    this.pages.delete(number);
    for (const id of [...page.ids]) this.unsubscribe(page, id);
    const left = new Set([...this.pages.values()].flatMap((other) => [...other.channels]));
    const unused = [...page.channels].filter((name) => !left.has(name) && this.subscribed.delete(name));
    if (unused.length) this.connection.send({ type: "unsubscribe", channels: unused });
  }
}
