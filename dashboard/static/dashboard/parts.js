// Replaces parts of the page by those of a newer answer; what somebody uses stays, and is replaced when it is free.
import { tick } from "./ages.js";
import { ApiError, getPart } from "./telemetry_api.js";

/** Read a page, or a part of one, as a document. Its scripts do not run. */
export async function readPart(url = location.href) {
  const response = await getPart(url);
  const read = new DOMParser().parseFromString(await response.text(), "text/html");
  const { user } = read.body.dataset;
  if (user !== undefined && user !== document.body.dataset.user) throw new ApiError("somebody else has signed in; reload the page", 403);
  return read;
}

/** Return whether the focus or a selected text is in an element, which then must not be replaced. */
function isInUse(element) {
  const selection = getSelection();
  return element.contains(document.activeElement) || (!selection.isCollapsed && selection.containsNode(element, true));
}

/** Return the text without ages, which grow by themselves. */
function textOf(element) {
  const copy = element.cloneNode(true);
  for (const part of copy.querySelectorAll("time[data-age], input, script")) part.remove();
  return copy.textContent.replace(/\s+/g, " ");
}

/**
 * Replace the content of elements by that of a read document, where their texts differ. Return the changed elements.
 * `whenFree` is called once an element that was in use is free, to read again; without it, every element is replaced.
 */
export function replaceParts(read, selectors, whenFree = null) {
  const changed = [];
  for (const selector of selectors) {
    const [shown, newer] = [document, read].map((root) => root.querySelector(selector));
    if (!shown || !newer || textOf(shown) === textOf(newer)) continue;
    if (whenFree && isInUse(shown)) {
      waitUntilFree(shown, whenFree);
      continue;
    }
    const restore = keepUse(shown);
    shown.replaceChildren(...document.importNode(newer, true).childNodes);
    for (const { name, value } of newer.attributes) if (name === "class" || name.startsWith("data-")) shown.setAttribute(name, value);
    restore();
    changed.push(shown);
  }
  if (changed.length) tick();
  return changed;
}

/** Return a function that opens, selects and focuses in the new rows what was so in the old ones. */
function keepUse(element) {
  const rowOf = (part) => part.closest("[data-alert], [data-device]");
  const selectorOf = ({ dataset: { alert, device } }) => (alert ? `[data-alert="${CSS.escape(alert)}"]` : `[data-device="${CSS.escape(device)}"]`);
  const open = [...element.querySelectorAll("[data-alert] > details[open]")].map((details) => selectorOf(details.parentElement));
  const checked = [...element.querySelectorAll("input:checked")].map((box) => box.value);
  const focused = document.activeElement;
  const row = element.contains(focused) && rowOf(focused);
  return () => {
    for (const selector of open) element.querySelector(`${selector} > details`)?.setAttribute("open", "");
    for (const box of element.querySelectorAll("input[type=checkbox]")) box.checked = checked.includes(box.value);
    if (row) element.querySelector(`${selectorOf(row)} ${focused.matches("input") ? "input" : "[data-row]"}`)?.focus({ preventScroll: true });
  };
}

const waiting = new Set();

function waitUntilFree(element, whenFree) {
  if (waiting.has(element)) return;
  waiting.add(element);
  const check = () => {
    if (isInUse(element)) return;
    waiting.delete(element);
    for (const name of ["focusin", "focusout", "selectionchange"]) document.removeEventListener(name, soon);
    whenFree();
  };
  const soon = () => setTimeout(check); // the focus is nowhere during focusout
  for (const name of ["focusin", "focusout", "selectionchange"]) document.addEventListener(name, soon);
}
