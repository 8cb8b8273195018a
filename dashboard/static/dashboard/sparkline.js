// A sparkline: an hour of one metric, with its threshold where there is one.
const HOUR = 3_600_000;

export class Sparkline {
  constructor(svg, kind, threshold = null) {
    this.path = svg.querySelector("path");
    this.line = svg.querySelector("line");
    this.stepped = kind === "boolean";
    this.threshold = threshold;
    this.points = [];
  }

  replace(times, values) {
    const newer = this.points.filter(([ms]) => ms > (times.at(-1) ?? 0));
    this.points = times.map((ms, i) => [ms, Number(values[i])]).concat(newer);
  }

  append(ms, value) {
    if (this.points.length && ms <= this.points[this.points.length - 1][0]) return;
    this.points.push([ms, Number(value)]);
    // Drop every second point when there are more than can be seen.
    if (this.points.length > 800) this.points = this.points.filter((_point, i) => i % 2);
  }

  draw(now) {
    const shown = this.points.filter(([ms]) => ms >= now - HOUR);
    this.line?.removeAttribute("x2");
    if (shown.length < 2) { this.path.removeAttribute("d"); return; }
    let [low, high] = this.threshold === null ? [Infinity, -Infinity] : [this.threshold, this.threshold];
    for (const [, value] of shown) { low = Math.min(low, value); high = Math.max(high, value); }
    const x = (ms) => (1000 * (1 - (now - ms) / HOUR)).toFixed(1);
    // Halves, since the difference of two values may be infinite.
    const y = (value) => (high > low ? 92 - 84 * ((value / 2 - low / 2) / (high / 2 - low / 2)) : 50).toFixed(1);
    let d = `M${x(shown[0][0])} ${y(shown[0][1])}`;
    for (const [ms, value] of shown.slice(1)) d += this.stepped ? `H${x(ms)}V${y(value)}` : `L${x(ms)} ${y(value)}`;
    this.path.setAttribute("d", d);
    if (this.threshold === null) return;
    for (const name of ["y1", "y2"]) this.line.setAttribute(name, y(this.threshold));
    this.line.setAttribute("x2", 1000);
  }
}
