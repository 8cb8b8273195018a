// Formats values and durations exactly as dashboard/number_format.py does.
const MINUS = "\u2212";
const SPACE = "\u00a0";
const MAX_TEXT_LENGTH = 80;
const PREFIXED = { B: "B", bytes: "B", byte: "B", "B/s": "B/s", "bytes/s": "B/s", "bit/s": "bit/s", Hz: "Hz", W: "W", Wh: "Wh" };
const PREFIXES = ["", "k", "M", "G", "T", "P"];
const SYMBOLS = { percent: "%", celsius: "°C", fahrenheit: "°F", seconds: "s", second: "s", count: "", 1: "" };

function grouped(number, digits) {
  let text = number.toFixed(number % 1 ? digits : 0);
  if (!Number(text)) text = text.replace("-", "");
  const [whole, part] = text.split(".");
  return (whole.replace(/\B(?=(\d{3})+$)/g, ",") + (part ? "." + part : "")).replace("-", MINUS);
}

export function numberText(number) {
  const size = Math.abs(number);
  if (!Number.isFinite(number)) return "no data";
  if (size && (size < 1e-4 || size >= 1e15)) return number.toExponential(2).replace("e+", "e").replaceAll("-", MINUS);
  if (size >= 1000) return grouped(number, 0);
  if (size >= 100) return grouped(number, 1);
  if (size >= 1 || !size) return grouped(number, 2);
  return grouped(number, Math.min(6, 2 - Math.floor(Math.log10(size))));
}

/** Return a tick's label without trailing zeros. */
export const tickText = (text) => (text.includes(".") && !text.includes("e") ? text.replace(/\.?0+$/, "") : text);

export function durationText(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole}${SPACE}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}${SPACE}min`;
  if (whole < 86400) {
    const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
    return hours < 10 && minutes ? `${hours}${SPACE}h ${minutes}${SPACE}min` : `${hours}${SPACE}h`;
  }
  const [days, hours] = [Math.floor(whole / 86400), Math.floor((whole % 86400) / 3600)];
  return days < 10 && hours ? `${days}${SPACE}d ${hours}${SPACE}h` : `${grouped(days, 0)}${SPACE}d`;
}

/** @returns {[string, string]} the value and its unit as text */
export function reading(value, unit) {
  const symbol = SYMBOLS[unit] ?? unit ?? "";
  if (typeof value === "boolean") return [value ? "on" : "off", ""];
  if (typeof value === "number") {
    if (symbol === "s" && value >= 120) return [durationText(value), ""];
    if (symbol in PREFIXED && Math.abs(value) >= 1000) {
      const step = Math.min(PREFIXES.length - 1, Math.floor(Math.log10(Math.abs(value)) / 3));
      return [numberText(value / 1000 ** step), PREFIXES[step] + PREFIXED[symbol]];
    }
    return [numberText(value), PREFIXED[symbol] ?? symbol];
  }
  if (value && typeof value === "object" && "latitude" in value && "longitude" in value) {
    return [`${value.latitude}, ${value.longitude}`.replaceAll("-", MINUS), ""];
  }
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return [text.length <= MAX_TEXT_LENGTH ? text : text.slice(0, MAX_TEXT_LENGTH - 1) + "…", symbol];
}

/** Return a value of a chart with its unit; booleans are 0 and 1 in a chart. */
export function pointText(value, series) {
  if (value === null || value === undefined) return "no data";
  return reading(series.kind === "boolean" ? value > 0 : value, series.unit).filter(Boolean).join(SPACE);
}

const two = (n) => String(n).padStart(2, "0");
export const clockText = (ms, seconds = true) => {
  const at = new Date(ms);
  return `${two(at.getHours())}:${two(at.getMinutes())}${seconds ? ":" + two(at.getSeconds()) : ""}`;
};
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
export const dayText = (ms) => `${new Date(ms).getDate()}${SPACE}${MONTHS[new Date(ms).getMonth()]}`;
export const momentText = (ms) => `${dayText(ms)} ${new Date(ms).getFullYear()}, ${clockText(ms)}`;
