// One line of a chart: points in order of time.
const FEW = 20; // points that are faster added one by one

export class Series {
  constructor({ name, kind, unit }, number) {
    this.name = name;
    this.kind = kind;
    this.unit = unit;
    this.number = number; // 1 to 8: colour, dash and label
    this.arrived = []; // points of the stream during a request
    this.replace([], []);
  }

  replace(times, values) {
    this.times = times;
    this.values = values.map(Number);
    this.drawn = this.maxPauseMs = null;
  }

  get newest() {
    return this.times.length ? this.times[this.times.length - 1] : null;
  }

  /** Add a point. Late points are inserted; a second point of the same time replaces the first. */
  append(ms, value) {
    let at = this.times.length;
    while (at > 0 && this.times[at - 1] > ms) at--;
    const same = at > 0 && this.times[at - 1] === ms;
    this.times.splice(same ? at - 1 : at, same ? 1 : 0, ms);
    this.values.splice(same ? at - 1 : at, same ? 1 : 0, Number(value));
    this.drawn = this.maxPauseMs = null;
  }

  /** Add many points in any order; a second point of the same time replaces the first. */
  merge(points) {
    if (points.length <= FEW) return points.forEach(([ms, value]) => this.append(ms, value));
    const values = new Map(this.times.map((ms, i) => [ms, this.values[i]]));
    for (const [ms, value] of points) values.set(ms, Number(value));
    this.times = [...values.keys()].sort((a, b) => a - b);
    this.values = this.times.map((ms) => values.get(ms));
    this.drawn = this.maxPauseMs = null;
  }

  /** Drop points far before the window, so that a page that stays open for a week stays small. */
  dropBefore(beforeMs) {
    const from = this.times.findIndex((ms) => ms >= beforeMs);
    if (from < 500) return;
    this.times.splice(0, from);
    this.values.splice(0, from);
    this.drawn = this.maxPauseMs = null;
  }

  /** Return the last value at or before a time; null inside a gap. */
  at(ms) {
    let [low, high] = [0, this.times.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.times[middle] <= ms) low = middle + 1;
      else high = middle;
    }
    if (!low) return null;
    const inGap = low < this.times.length ? this.isGap(low) : ms - this.newest > Math.max(this.maxPause(), 4 * this.pause(low - 1));
    return inGap && this.kind !== "boolean" ? null : this.values[low - 1];
  }

  pause(i) {
    return i > 0 && i < this.times.length ? this.times[i] - this.times[i - 1] : 0;
  }

  /** Return whether there is a gap before point i: a pause that is long, also compared with its neighbours. */
  isGap(i) {
    const pause = this.pause(i);
    return pause > this.maxPause() && pause > 4 * Math.max(this.pause(i - 1), this.pause(i + 1));
  }

  /** Return the longest pause that is no gap: four times the 75th percentile of the pauses. */
  maxPause() {
    if (this.maxPauseMs !== null) return this.maxPauseMs;
    const pauses = [];
    const step = Math.max(1, Math.floor(this.times.length / 400));
    for (let i = step; i < this.times.length; i += step) pauses.push(this.times[i] - this.times[i - 1]);
    pauses.sort((a, b) => a - b);
    this.maxPauseMs = pauses.length < 3 ? Infinity : Math.max(4 * pauses[Math.floor(pauses.length * 0.75)], 2000);
    return this.maxPauseMs;
  }

  /** Return times and values for uPlot, with a null inside every gap. */
  columns() {
    if (this.drawn) return this.drawn;
    const [times, values] = [[], []];
    for (let i = 0; i < this.times.length; i++) {
      if (this.kind !== "boolean" && this.isGap(i)) {
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
