// Formats values and durations exactly as metrics/value_text.py does.
import { wallClock } from "./time_zone.js";

const MINUS = "\u2212";
const NO_DATA = "no data";
const SIGNIFICANT_DIGITS = 5;
const EXACT_DIGITS = 17; // distinguish all numbers
const SPACE = "\u00a0";
const MAX_TEXT_LENGTH = 80;
const PREFIXED = { B: "B", bytes: "B", byte: "B", "B/s": "B/s", "bytes/s": "B/s", "bit/s": "bit/s", Hz: "Hz", W: "W", Wh: "Wh" };
const PREFIXES = ["", "k", "M", "G", "T", "P"];
const SYMBOLS = { percent: "%", celsius: "°C", fahrenheit: "°F", seconds: "s", second: "s", count: "", 1: "" };

/** Return the text of a decimal number with thousands separators and a true minus sign. */
function grouped(text) {
  if (!Number(text)) return "0";
  const [whole, part] = text.split(".");
  return (whole.replace(/\B(?=(\d{3})+$)/g, ",") + (part ? "." + part : "")).replace("-", MINUS);
}

function trimmed(text) {
  const [mantissa, exponent] = text.split("e");
  const short = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
  return (exponent ? `${short}e${Number(exponent)}` : short).replaceAll("-", MINUS);
}

const isFixed = (number) => Math.abs(number) >= 1e-4 && Math.abs(number) < 1e15;

function withDigits(number, digits) {
  if (!Number.isFinite(number)) return NO_DATA;
  if (!number) return "0";
  if (!isFixed(number)) return trimmed(number.toExponential(digits - 1));
  return trimmed(grouped(number.toFixed(Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(number)))))));
}

/** Return a number with the fewest digits that no other number shares. */
const exact = (number) => trimmed(isFixed(number) ? grouped(String(number)) : number.toExponential());

/** Return a number with five significant digits, or with as many as distinguish it from the numbers beside it. */
export function numberText(number, ...beside) {
  const others = beside.filter((other) => Number.isFinite(other) && other !== number);
  for (let digits = SIGNIFICANT_DIGITS; digits < EXACT_DIGITS; digits++) {
    const text = withDigits(number, digits);
    if (others.every((other) => withDigits(other, digits) !== text)) return text;
  }
  return exact(number);
}

export function durationText(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole}${SPACE}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}${SPACE}min`;
  if (whole < 86400) {
    const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
    return hours < 10 && minutes ? `${hours}${SPACE}h ${minutes}${SPACE}min` : `${hours}${SPACE}h`;
  }
  const [days, hours] = [Math.floor(whole / 86400), Math.floor((whole % 86400) / 3600)];
  return days < 10 && hours ? `${days}${SPACE}d ${hours}${SPACE}h` : `${grouped(String(days))}${SPACE}d`;
}

/** @returns {[string, string]} the value and its unit as text */
export function reading(value, unit) {
  const symbol = SYMBOLS[unit] ?? unit ?? "";
  if (typeof value === "boolean") return [value ? "true" : "false", ""];
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

/** Return the values of a column in one format: all with as many decimals as the most precise one. */
export function pointTexts(values, series) {
  const texts = values.map((value) => (value === undefined ? "" : pointText(value, series)));
  const numbers = texts.map((text) => text.match(/^(\u2212?[\d,]+)(?:\.(\d+))?(?=$|\u00a0)/));
  const widest = Math.max(0, ...numbers.map((number) => number?.[2]?.length ?? 0));
  return texts.map((text, i) => (numbers[i] && widest
    ? `${numbers[i][1]}.${(numbers[i][2] ?? "").padEnd(widest, "0")}${text.slice(numbers[i][0].length)}` : text));
}

const two = (n) => String(n).padStart(2, "0");
export const clockText = (ms, seconds = true) => {
  const at = wallClock(ms);
  return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}${seconds ? ":" + two(at.getUTCSeconds()) : ""}`;
};
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
export const dayText = (ms) => `${wallClock(ms).getUTCDate()}${SPACE}${MONTHS[wallClock(ms).getUTCMonth()]}`;
export const momentText = (ms) => `${dayText(ms)} ${wallClock(ms).getUTCFullYear()}, ${clockText(ms)}`;
