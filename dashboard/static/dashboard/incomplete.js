// The note on data that could not be read.
export function showIncomplete(element, missing) {
  element.textContent = missing.length ? `Incomplete: ${missing.join("; ")}` : "";
  element.hidden = !missing.length;
}
