// One line of a chart: points in order of time, kept while the page is open.
export class Series {
  constructor({ name, kind, unit }, number) {
    this.name = name;
    this.kind = kind;
    this.unit = unit;
    this.number = number; // 1 to 8: colour, dash and label
    this.replace([], []);
  }

  replace(times, values) {
    this.times = times;
    this.values = values.map(Number);
    this.drawn = this.gapMs = null;
  }

  get newest() {
    return this.times.length ? this.times[this.times.length - 1] : null;
  }

  /** Points arrive in order but for the late ones; a second point of one moment replaces the first. */
  append(ms, value) {
    let at = this.times.length;
    while (at > 0 && this.times[at - 1] > ms) at--;
    const same = at > 0 && this.times[at - 1] === ms;
    this.times.splice(same ? at - 1 : at, same ? 1 : 0, ms);
    this.values.splice(same ? at - 1 : at, same ? 1 : 0, Number(value));
    this.drawn = this.gapMs = null;
  }

  /** Forgets what lies far left of the window, so that a page left open for a week stays small. */
  forget(beforeMs) {
    const from = this.times.findIndex((ms) => ms >= beforeMs);
    if (from < 500) return;
    this.times.splice(0, from);
    this.values.splice(0, from);
    this.drawn = this.gapMs = null;
  }

  /** The last value at or before a moment, unless it is too old to speak for it. */
  at(ms) {
    let [low, high] = [0, this.times.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] <= ms) low = middle + 1;
      else high = middle;
    }
    if (!low) return null;
    const quiet = low < this.times.length ? this.isHole(low) : ms - this.newest > Math.max(this.gap(), 4 * this.pause(low - 1));
    return quiet && this.kind !== "boolean" ? null : this.values[low - 1];
  }

  pause(i) {
    return i > 0 && i < this.times.length ? this.times[i] - this.times[i - 1] : 0;
  }

  /** Whether nothing came before point i: a long pause, and long beside its neighbours too, for a device may change its pace. */
  isHole(i) {
    const pause = this.pause(i);
    return pause > this.gap() && pause > 4 * Math.max(this.pause(i - 1), this.pause(i + 1));
  }

  /** A pause up to this is no hole: four times what three quarters of the pauses stay below. */
  gap() {
    if (this.gapMs !== null) return this.gapMs;
    const pauses = [];
    const step = Math.max(1, Math.floor(this.times.length / 400));
    for (let i = step; i < this.times.length; i += step) pauses.push(this.times[i] - this.times[i - 1]);
    pauses.sort((a, b) => a - b);
    this.gapMs = pauses.length < 3 ? Infinity : Math.max(4 * pauses[Math.floor(pauses.length * 0.75)], 2000);
    return this.gapMs;
  }

  /** What uPlot draws: times and values, with a null inside every hole. */
  columns() {
    if (this.drawn) return this.drawn;
    const [times, values] = [[], []];
    for (let i = 0; i < this.times.length; i++) {
      if (this.kind !== "boolean" && this.isHole(i)) {
        times.push(this.times[i - 1] + 1);
        values.push(null);
      }
      times.push(this.times[i]);
      values.push(this.values[i]);
    }
    this.drawn = [times, values];
    return this.drawn;
  }
}
