// What an answer leaves out since it cannot be read.
export function tellIncomplete(element, missing) {
  element.textContent = missing.length ? `Incomplete: ${missing.join("; ")}` : "";
  element.hidden = !missing.length;
}
