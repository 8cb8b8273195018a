// One connection to the live stream of the site: a WebSocket, or server-sent events where WebSockets are blocked.
// It reconnects by itself, later with each failure, unless the server says that it must not.
import { EventsTransport, SocketTransport } from "./transports.js";

const SILENT_MS = 40_000; // without a message the connection is broken; the server sends pings every 25 s
const WAKE_SILENT_MS = 26_000; // the same after a sleep, in which a ping may have been missed
const [MIN_WAIT_MS, MAX_WAIT_MS] = [500, 30_000];
// WebSockets in a row that did not open, before server-sent events are tried: at first, and once a WebSocket has opened,
// when the server is more likely to be down than WebSockets to be blocked.
const [FAILURES_AT_FIRST, FAILURES_LATER] = [2, 8];
const PROBE_MS = [30_000, 600_000]; // when to try a WebSocket again while server-sent events are in use
const TERMINAL = [4001, 4003, 4004, 4009, 4013]; // close codes without a retry, where the error frame was lost

export class Connection {
  /**
   * urls: {socket, events}. Callbacks: opened() before anything is subscribed, frame(frame), and status(status) with
   * {state: "connecting" | "live" | "reconnecting" | "stopped", transport, code, detail}.
   */
  constructor(urls, callbacks) {
    this.urls = urls;
    this.callbacks = callbacks;
    this.failures = 0;
    this.unopened = 0; // WebSockets in a row that did not open
    this.hasOpened = false;
    this.transport = null;
    this.status = { state: "connecting", transport: "websocket", code: null, detail: "" };
    this.open();
  }

  open() {
    this.drop();
    this.error = null;
    this.heardAt = Date.now();
    const useEvents = this.unopened >= (this.hasOpened ? FAILURES_LATER : FAILURES_AT_FIRST) && this.status.transport !== "events";
    const Transport = useEvents ? EventsTransport : SocketTransport;
    this.setStatus({ state: this.status.state === "live" ? "reconnecting" : this.status.state, transport: useEvents ? "events" : "websocket" });
    this.transport = new Transport(useEvents ? this.urls.events : this.urls.socket, {
      opened: () => this.opened(useEvents),
      frame: (frame) => this.receive(frame),
      closed: (code) => this.closed(code),
    });
    this.watch();
  }

  /** Close the transport without its callbacks. */
  drop() {
    for (const timer of [this.retryTimer, this.silentTimer, this.probeTimer]) clearTimeout(timer);
    this.transport?.close();
    this.transport = this.retryTimer = null;
    this.isOpen = false;
  }

  opened(isEvents) {
    if (!isEvents) [this.unopened, this.hasOpened] = [0, true];
    this.isOpen = true;
    this.callbacks.opened();
    if (isEvents) this.probeSoon(PROBE_MS[0]);
  }

  send(frame) {
    this.transport?.send(frame);
  }

  receive(frame) {
    this.heardAt = Date.now();
    this.watch();
    if (frame.type === "ping") this.send({ type: "pong" });
    if (frame.type === "error" && frame.code !== null) {
      this.error = frame;
      return;
    }
    // The server accepts a socket before it checks the session: it is live with the first frame that is no error.
    if (this.status.state !== "live") {
      this.failures = 0;
      this.setStatus({ state: "live", code: null, detail: "" });
    }
    this.callbacks.frame(frame);
  }

  closed(code) {
    const { error } = this;
    if (!this.isOpen && this.status.transport === "websocket") this.unopened++;
    this.drop();
    const reason = { code: error?.code ?? code, detail: error?.detail ?? "" };
    if (error ? !error.retry : TERMINAL.includes(code)) {
      this.setStatus({ state: "stopped", ...reason });
      return;
    }
    // Half of the wait is random, so that a thousand pages do not reconnect in the same second.
    const wait = Math.max(Math.min(MAX_WAIT_MS, MIN_WAIT_MS * 2 ** this.failures++), error?.retry_after_ms ?? 0);
    this.retryTimer = setTimeout(() => this.open(), wait * (error?.retry_after_ms ? 1 + Math.random() / 2 : 0.5 + Math.random() / 2));
    this.setStatus({ state: "reconnecting", ...reason });
  }

  watch() {
    clearTimeout(this.silentTimer);
    if (this.status.transport === "events") return; // scripts do not see the pings of server-sent events
    this.silentTimer = setTimeout(() => this.closed(0), SILENT_MS);
  }

  /** Reconnect at once where that may help: the computer slept, the network is back, or a page was opened. */
  wake({ networkChanged = false } = {}) {
    const isSilent = this.status.transport === "websocket" && Date.now() - this.heardAt > WAKE_SILENT_MS;
    const isBroken = networkChanged || isSilent;
    if (this.retryTimer || this.status.state === "live" && isBroken) this.open();
  }

  /** Reconnect after the reason of a final close is gone. */
  retry() {
    if (this.status.state === "live") return;
    this.failures = 0;
    this.setStatus({ state: "reconnecting", code: null, detail: "" });
    this.open();
  }

  stop(code) {
    this.drop();
    this.setStatus({ state: "stopped", code, detail: "" });
  }

  /** Return to WebSockets once they open again: they may have failed because the server was restarting. */
  probeSoon(delay) {
    this.probeTimer = setTimeout(() => {
      const probe = new WebSocket(this.urls.socket);
      let isOpen = false;
      probe.onopen = () => { isOpen = true; probe.close(); };
      probe.onclose = () => {
        if (this.status.transport !== "events") return;
        if (!isOpen) return this.probeSoon(PROBE_MS[1]);
        this.unopened = 0;
        this.open();
      };
    }, delay);
  }

  setStatus(change) {
    this.status = { ...this.status, ...change };
    this.callbacks.status(this.status);
  }
}
