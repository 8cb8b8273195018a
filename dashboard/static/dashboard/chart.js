// Draws with uPlot: colours, axes and line numbers. chart_view.js decides what is shown.
import { drawBand, drawThresholds, rangeOf } from "./chart_overlay.js";
import { clockText, dayText, momentText, numberText, reading } from "./number_format.js";
import { zone } from "./time_zone.js";

const uPlot = globalThis.uPlot;
const DAY = 86_400_000;
const MINUTE = 60_000;
const LABEL_GAP = 12;
const EXPAND_NULLS = 2; // a mode of uPlot.join: a null reaches to the next values of its own line
const HUGE = 1e300;
const HUGE_DIVISOR = 2 ** 20;
const NUMBER_WIDTH = 20; // for the line numbers at the right

/** Return the colours of the theme, read from the probe elements. */
function colours() {
  const of = (name) => getComputedStyle(document.querySelector(`#probes .${name}`)).color;
  return {
    series: [1, 2, 3, 4, 5, 6, 7, 8].map((n) => of(`s${n}`)),
    line: of("line"), axis: of("axis"), surface: of("surface"), band: of("band"), limit: of("limit"),
    levels: Object.fromEntries(["info", "warning", "error", "critical", "emergency"].map((level) => [level, of(`fill.${level}`)])),
    font: `12px ${getComputedStyle(document.body).fontFamily}`,
  };
}

function timeLabels(_plot, splits, _axis, _space, step) {
  return splits.map((split) => {
    const ms = Math.round(split / 1000) * 1000; // uPlot's splits can be just below the minute
    if (step >= DAY || clockText(ms) === "00:00:00") return dayText(ms);
    return clockText(ms, step < MINUTE);
  });
}

const isPrefixed = (unit) => reading(1e6, unit)[1] !== reading(1, unit)[1];

function valueLabels(unit, divisorOf) {
  const labels = labelsOf(unit);
  const whole = (v, divisor) => (v === null || divisor === 1 ? v : Math.max(-Number.MAX_VALUE, Math.min(Number.MAX_VALUE, v * divisor)));
  return (plot, splits) => labels(plot, splits.map((v) => whole(v, divisorOf())));
}

function labelsOf(unit) {
  if (unit === "on/off") return (_plot, splits) => splits.map((v) => (v === 0 ? "false" : v === 1 ? "true" : ""));
  if (isPrefixed(unit)) return (_plot, splits) => splits.map((v) => (v === null ? "" : reading(v, unit)[0] + "\u00a0" + reading(v, unit)[1]));
  const symbol = reading(1, unit)[1];
  // The unit is written once, at the top.
  return (_plot, splits) => splits.map((v, i) => (v === null ? "" : numberText(v) + (i === splits.length - 1 && symbol ? `\u00a0${symbol}` : "")));
}

export class Chart {
  /** callbacks: hover(ms | null), zoom(fromMs, toMs), reset(); overlay: as in chart_overlay.js, on the first line's scale, or null */
  constructor(element, callbacks, overlay = null) {
    this.element = element;
    this.callbacks = callbacks;
    this.overlay = overlay;
    this.series = [];
    this.window = { start: 0, end: 1 };
    this.grown = {}; // per scale: axes grow while live, and shrink only on request
    this.stamp = document.createElement("span");
    this.stamp.className = "chart-at";
    this.stamp.hidden = true;
    new ResizeObserver(() => this.resize()).observe(element);
    document.addEventListener("theme-changed", () => this.build());
  }

  setSeries(series) {
    this.series = series;
    this.shrink();
    this.build();
  }

  shrink() {
    this.grown = {};
  }

  build() {
    this.plot?.destroy();
    if (!this.series.length) { this.plot = null; return; }
    this.colours = colours();
    const scales = [...new Set(this.series.map(scaleOf))];
    this.plot = new uPlot(this.options(scales), this.data(), this.element);
    this.plot.over.append(this.stamp);
    this.resize();
    this.draw();
  }

  options(scales) {
    const { axis, line, font } = this.colours;
    const common = { stroke: axis, font, ticks: { show: false }, border: { show: false } };
    const wide = (_plot, labels, i) => (i === 2 ? NUMBER_WIDTH : 0) + 14 + 7 * Math.max(3, ...(labels ?? [""]).map((text) => String(text ?? "").length));
    return {
      ...this.size(),
      ms: 1,
      tzDate: (ms) => uPlot.tzDate(new Date(ms), zone),
      legend: { show: false },
      padding: [14, scales.length > 1 ? 4 : NUMBER_WIDTH + 4, 0, 4],
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        points: { size: 8, width: 2, stroke: (_plot, i) => this.colours.series[this.series[i - 1].number - 1], fill: this.colours.surface },
        bind: {
          // Shift and drag moves the window (gestures.js).
          mousedown: (_plot, _target, handle) => (event) => (event.shiftKey ? null : handle(event)),
          dblclick: () => () => this.callbacks.reset(),
        },
      },
      scales: {
        x: { time: true, range: () => [this.window.start, this.window.end] },
        ...Object.fromEntries(scales.map((scale) => [scale, { range: (_plot, low, high) => this.range(scale, low, high) }])),
      },
      axes: [
        { ...common, grid: { show: false }, values: timeLabels, size: 30, space: 80 },
        // Two units have an axis; values of further units are in the legend.
        ...scales.slice(0, 2).map((scale, i) => ({
          ...common, scale, side: i ? 1 : 3, size: wide, gap: i ? NUMBER_WIDTH + 4 : 6, values: valueLabels(scale === UNITLESS ? "" : scale, () => this.divisorOf(scale)), space: 40,
          grid: { show: i === 0, stroke: line, width: 1 },
          ...(scale === "on/off" ? { splits: () => [0, 1] } : {}),
        })),
      ],
      series: [{}, ...this.series.map((series) => this.style(series))],
      hooks: {
        drawAxes: [(plot) => { if (this.overlay) drawBand(this.valueAxis(plot), this.overlay, this.colours); }],
        draw: [(plot) => { if (this.overlay) drawThresholds(this.valueAxis(plot), this.overlay, this.colours); }, () => this.numberLines()],
        setSelect: [() => this.selected()],
        setCursor: [() => this.pointed()],
      },
    };
  }

  style(series) {
    const stepped = series.kind === "boolean";
    const stroke = this.colours.series[series.number - 1];
    return {
      label: series.name, scale: scaleOf(series), stroke, width: 1.75,
      dash: series.number > 4 ? [7, 4] : undefined,
      points: { size: 5, fill: stroke, stroke },
      ...(stepped ? { paths: uPlot.paths.stepped({ align: 1 }) } : {}),
    };
  }

  /** Return what the values of a scale are divided by to be drawn: the range of values near the largest number has no finite size. */
  divisorOf(scale) {
    const isHuge = this.series.some((series) => scaleOf(series) === scale && series.values.some((value) => Math.abs(value) > HUGE));
    return isHuge ? HUGE_DIVISOR : 1;
  }

  range(scale, low, high) {
    if (scale === "on/off") return [-0.15, 1.15];
    const divisor = this.divisorOf(scale);
    const required = this.overlay && scale === scaleOf(this.series[0]) ? rangeOf(this.overlay)?.map((value) => value / divisor) : null;
    if (required) [low, high] = [Math.min(low ?? required[0], required[0]), Math.max(high ?? required[1], required[1])];
    if (low === null || high === null) return this.grown[scale] ?? [0, 1];
    let [from, to] = uPlot.rangeNum(low, high, 0.1, true);
    const before = this.grown[scale];
    if (before) [from, to] = [Math.min(from, before[0]), Math.max(to, before[1])];
    this.grown[scale] = [from, to];
    return this.grown[scale];
  }

  data() {
    const tables = this.series.map((series) => {
      const [times, values] = series.columns();
      const divisor = this.divisorOf(scaleOf(series));
      return [times, divisor === 1 ? values : values.map((value) => (value === null ? null : value / divisor))];
    });
    // Without EXPAND_NULLS, the points of the other lines would end a gap after a few pixels.
    return tables.length === 1 ? tables[0] : uPlot.join(tables, tables.map(() => [0, EXPAND_NULLS]));
  }

  /** Return the plot with the position of values on the first line's scale, for the overlay. */
  valueAxis(plot) {
    const scale = scaleOf(this.series[0]);
    const divisor = this.divisorOf(scale);
    return { plot, y: (value) => placeOf(plot, value, scale, divisor) };
  }

  draw(window = this.window) {
    this.window = window;
    if (!this.plot) return;
    this.plot.setData(this.data(), false);
    this.plot.setScale("x", { min: window.start, max: window.end });
  }

  size() {
    return { width: Math.max(200, this.element.clientWidth - 8), height: Math.max(120, this.element.clientHeight) };
  }

  resize() {
    const { width, height } = this.size();
    if (this.plot && (this.plot.width !== width || this.plot.height !== height)) this.plot.setSize({ width, height });
  }

  /** Write the number of each line at its right end, so that lines differ without colours. */
  numberLines() {
    if (this.series.length < 2) return;
    const { ctx, bbox } = this.plot;
    const ratio = devicePixelRatio;
    const ends = [];
    for (const series of this.series) {
      const value = series.at(this.window.end) ?? lastIn(series, this.window);
      if (value === null) continue;
      ends.push({ series, y: placeOf(this.plot, value, scaleOf(series), this.divisorOf(scaleOf(series))) });
    }
    ends.sort((a, b) => a.y - b.y);
    for (let i = 1; i < ends.length; i++) ends[i].y = Math.max(ends[i].y, ends[i - 1].y + LABEL_GAP * ratio);
    const over = ends.length ? ends[ends.length - 1].y - (bbox.top + bbox.height) : 0;
    if (over > 0) for (const end of ends) end.y -= over;
    ctx.save();
    ctx.font = `600 ${12 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
    ctx.textBaseline = "middle";
    ctx.lineWidth = 4 * ratio;
    ctx.lineJoin = "round";
    const x = bbox.left + bbox.width + 6 * ratio;
    for (const { series, y } of ends) {
      ctx.strokeStyle = this.colours.surface;
      ctx.strokeText(series.number, x, y);
      ctx.fillStyle = this.colours.series[series.number - 1];
      ctx.fillText(series.number, x, y);
    }
    ctx.restore();
  }

  selected() {
    const { left, width } = this.plot.select;
    if (width < 8) return;
    const [from, to] = [this.plot.posToVal(left, "x"), this.plot.posToVal(left + width, "x")];
    this.plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.callbacks.zoom(from, to);
  }

  pointed() {
    const { left } = this.plot.cursor;
    const on = left !== null && left !== undefined && left >= 0;
    this.stamp.hidden = !on;
    if (!on) { this.callbacks.hover(null); return; }
    const ms = this.plot.posToVal(left, "x");
    this.stamp.textContent = this.window.end - this.window.start > DAY ? momentText(ms) : clockText(ms);
    const half = this.stamp.offsetWidth / 2;
    this.stamp.style.left = `${Math.max(0, Math.min(this.plot.over.clientWidth - 2 * half, left - half))}px`;
    this.callbacks.hover(ms);
  }
}

const placeOf = (plot, value, scale, divisor) => plot.valToPos(value / divisor, scale, true);

// One scale per unit; a scale needs a name even without a unit.
const UNITLESS = "number";
export const scaleOf = (series) => (series.kind === "boolean" ? "on/off" : series.unit || UNITLESS);

function lastIn(series, { start, end }) {
  for (let i = series.times.length - 1; i >= 0 && series.times[i] >= start; i--) {
    if (series.times[i] <= end) return series.values[i];
  }
  return null;
}
