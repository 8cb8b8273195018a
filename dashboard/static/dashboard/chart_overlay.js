// Draws thresholds, the expected range, the time an alert was open, deployments, and anomalies over a chart.
//
// {thresholds: [{value, text, recovery?}], band: [low, high] | null, spans: [{start, end | null, level}],
// events?: [{at, text}], newest first}; times in ms.
// Once loaded, expected: [[from, low, high]] replaces the band, and marks: [[at, value]] are the anomalies.
const SPAN_HEIGHT = 6;

/** Return the lowest and the highest value that must be on the chart. */
export function rangeOf(overlay) {
  const expected = (overlay.expected ?? []).flatMap(([, low, high]) => [low, high]);
  const values = [...overlay.thresholds.map((threshold) => threshold.value), ...(overlay.band ?? []), ...expected];
  return values.length ? [Math.min(...values), Math.max(...values)] : null;
}

/** Draw below the lines. */
export function drawBand({ plot, y: position }, overlay, colours) {
  const { ctx, bbox } = plot;
  const y = (value) => within(bbox, position(value));
  const x = (ms) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, plot.valToPos(ms, "x", true)));
  const steps = overlay.expected?.length ? overlay.expected : overlay.band ? [[-Infinity, ...overlay.band]] : [];
  ctx.save();
  ctx.fillStyle = colours.band;
  steps.forEach(([from, low, high], at) => {
    const left = from === -Infinity ? bbox.left : x(from);
    const right = at + 1 < steps.length ? x(steps[at + 1][0]) : bbox.left + bbox.width;
    ctx.fillRect(left, y(high), right - left, y(low) - y(high));
  });
  ctx.restore();
}

/** Draw above the lines. */
export function drawThresholds({ plot, y: position }, overlay, colours) {
  const { ctx, bbox } = plot;
  const ratio = devicePixelRatio;
  ctx.save();
  ctx.font = `600 ${12 * ratio}px ${getComputedStyle(document.body).fontFamily}`;
  ctx.lineJoin = "round";
  ctx.textAlign = "left";
  ctx.textBaseline = "alphabetic";
  for (const threshold of overlay.thresholds) {
    const y = Math.round(position(threshold.value));
    if (y < bbox.top || y > bbox.top + bbox.height) continue;
    ctx.strokeStyle = colours.limit;
    ctx.lineWidth = 1.5 * ratio;
    ctx.setLineDash(threshold.recovery ? [4 * ratio, 4 * ratio] : []);
    line(ctx, bbox.left, y, bbox.left + bbox.width, y);
    const [below, colour] = threshold.recovery ? [14, colours.axis] : [-5, colours.limit];
    write(ctx, threshold.text, bbox.left + 6 * ratio, y + below * ratio, colour, colours, ratio);
  }
  for (const span of overlay.spans) drawSpan(plot, span, colours, ratio);
  drawEvents(plot, overlay.events ?? [], colours, ratio);
  for (const mark of overlay.marks ?? []) drawMark(plot, mark, position, colours, ratio);
  ctx.restore();
}

function drawMark(plot, [ms, value], position, colours, ratio) {
  const { ctx, bbox } = plot;
  const [x, y] = [plot.valToPos(ms, "x", true), within(bbox, position(value))];
  if (x < bbox.left || x > bbox.left + bbox.width) return;
  ctx.setLineDash([]);
  ctx.lineWidth = 2 * ratio;
  ctx.strokeStyle = colours.limit;
  ctx.beginPath();
  ctx.arc(x, y, 5 * ratio, 0, 2 * Math.PI);
  ctx.stroke();
}

function drawSpan(plot, span, colours, ratio) {
  const { ctx, bbox } = plot;
  const at = (ms) => plot.valToPos(ms, "x", true);
  const [from, to] = [at(span.start), span.end === null ? Math.min(at(Date.now()), bbox.left + bbox.width) : at(span.end)];
  if (to < bbox.left || from > bbox.left + bbox.width) return;
  const left = Math.max(bbox.left, from);
  ctx.fillStyle = colours.levels[span.level];
  const spanWidth = Math.max(2 * ratio, Math.min(to, bbox.left + bbox.width) - left);
  ctx.fillRect(left, bbox.top + bbox.height - SPAN_HEIGHT * ratio, spanWidth, SPAN_HEIGHT * ratio);
  ctx.strokeStyle = colours.axis;
  ctx.lineWidth = ratio;
  ctx.setLineDash([2 * ratio, 3 * ratio]);
  if (from >= bbox.left) line(ctx, from, bbox.top, from, bbox.top + bbox.height);
  if (span.end !== null && to <= bbox.left + bbox.width) line(ctx, to, bbox.top, to, bbox.top + bbox.height);
  if (!span.text || from < bbox.left) return;
  const width = ctx.measureText(span.text).width + 5 * ratio;
  const beside = from + width > bbox.left + bbox.width ? from - width : from + 5 * ratio;
  write(ctx, span.text, beside, bbox.top + 10 * ratio, colours.axis, colours, ratio);
}

/** Draw a line at each event, with its text where it does not cover that of a newer one. */
function drawEvents(plot, events, colours, ratio) {
  const { ctx, bbox } = plot;
  let free = bbox.left + bbox.width;
  for (const event of events) {
    const x = plot.valToPos(event.at, "x", true);
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.strokeStyle = colours.axis;
    ctx.lineWidth = ratio;
    ctx.setLineDash([2 * ratio, 3 * ratio]);
    line(ctx, x, bbox.top, x, bbox.top + bbox.height);
    const width = ctx.measureText(event.text).width + 5 * ratio;
    const left = x + width > bbox.left + bbox.width ? x - width : x + 5 * ratio;
    if (left < bbox.left || left + width > free) continue;
    write(ctx, event.text, left, bbox.top + 10 * ratio, colours.axis, colours, ratio);
    free = Math.min(left, x) - 5 * ratio;
  }
}

function line(ctx, x1, y1, x2, y2) {
  ctx.beginPath();
  ctx.moveTo(x1, y1);
  ctx.lineTo(x2, y2);
  ctx.stroke();
}

function write(ctx, text, x, y, colour, colours, ratio) {
  ctx.setLineDash([]);
  ctx.lineWidth = 4 * ratio;
  ctx.strokeStyle = colours.surface;
  ctx.strokeText(text, x, y);
  ctx.fillStyle = colour;
  ctx.fillText(text, x, y);
}

const within = (bbox, y) => Math.min(bbox.top + bbox.height, Math.max(bbox.top, y));
