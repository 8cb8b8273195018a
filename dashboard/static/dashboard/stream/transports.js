// The two ways of receiving frames: each has send(frame) and close(), and the callbacks opened, frame and closed(code).

// The server closes a connection that sends more than 50 messages in 10 s, as many pages together may.
const [MAX_SENT, SENT_PERIOD_MS] = [40, 10_000];

export class SocketTransport {
  constructor(url, callbacks) {
    this.waiting = [];
    this.sentAt = []; // times of the last messages
    this.socket = new WebSocket(url);
    this.socket.onopen = callbacks.opened;
    this.socket.onmessage = (event) => callbacks.frame(JSON.parse(event.data));
    this.socket.onclose = (event) => callbacks.closed(event.code);
  }

  send(frame) {
    this.waiting.push(frame);
    this.flush();
  }

  flush() {
    clearTimeout(this.timer);
    const now = Date.now();
    this.sentAt = this.sentAt.filter((at) => at > now - SENT_PERIOD_MS);
    while (this.waiting.length && this.sentAt.length < MAX_SENT && this.socket.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify(this.waiting.shift()));
      this.sentAt.push(now);
    }
    if (this.waiting.length) this.timer = setTimeout(() => this.flush(), this.sentAt[0] + SENT_PERIOD_MS - now);
  }

  close() {
    clearTimeout(this.timer);
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
  }
}

const GATHER_MS = 100; // the subscriptions of a page are one request
const MAX_NAMES = 100; // in an address

/**
 * Server-sent events have no way back: every change of the subscriptions opens the stream again, with all of them in
 * its address. Its data is that of all of them together, and belongs to each that names the device and the metric.
 */
export class EventsTransport {
  constructor(url, callbacks) {
    this.url = url;
    this.callbacks = callbacks;
    this.channels = new Set();
    this.subscriptions = new Map();
    this.position = null; // of the last event
    queueMicrotask(() => { if (!this.isClosed) callbacks.opened(); });
  }

  send({ type, channels, subscription, ...filter }) {
    if (type === "subscribe" && channels) {
      for (const name of channels) this.channels.add(name);
      this.position ??= filter.resume_from ?? null;
    } else if (type === "subscribe") this.subscriptions.set(subscription, filter);
    else if (type === "unsubscribe" && channels) for (const name of channels) this.channels.delete(name);
    else if (type === "unsubscribe") this.subscriptions.delete(subscription);
    else return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.reopen(), GATHER_MS);
  }

  reopen() {
    this.source?.close();
    if (!this.channels.size && !this.subscriptions.size) return;
    const source = new EventSource(`${this.url}?${this.query()}`);
    this.source = source;
    source.onmessage = ({ data }) => this.receive(JSON.parse(data));
    source.onerror = ({ data }) => {
      if (!data) return this.callbacks.closed(0);
      const error = JSON.parse(data); // an "error" event of the server, with which the stream ends
      this.callbacks.frame(error);
      if (error.code !== null) this.callbacks.closed(error.code);
    };
  }

  query() {
    const filters = [...this.subscriptions.values()];
    const query = new URLSearchParams();
    if (this.channels.size) query.set("channels", [...this.channels].join(","));
    if (this.channels.size && this.position) query.set("resume_from", this.position);
    if (filters.length) query.set("max_frequency", String(Math.min(...filters.map((filter) => filter.max_frequency))));
    for (const field of ["device_ids", "metric_names"]) {
      const names = [...new Set(filters.flatMap((filter) => filter[field] ?? []))];
      // Where one subscription is of everything, or a name cannot be in a list, the stream is of everything.
      const isListed = names.length <= MAX_NAMES && filters.every((filter) => filter[field]) && !names.some((name) => name.includes(","));
      if (names.length && isListed) query.set(field, names.join(","));
    }
    return query;
  }

  receive(frame) {
    if (frame.type === "event") this.position = frame.position;
    if (!frame.values) return this.callbacks.frame(frame);
    for (const [subscription, { device_ids: devices, metric_names: metrics }] of this.subscriptions) {
      const values = frame.values.filter((value) => (!devices || devices.includes(value.device_id)) && (!metrics || metrics.includes(value.metric_name)));
      if (values.length || frame.type !== "points") this.callbacks.frame({ ...frame, subscription, values });
    }
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
    this.source?.close();
  }
}
