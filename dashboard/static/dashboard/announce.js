// Announces texts to screen readers.
const PAUSE_MS = 10_000;
let announcedAt = 0;
let pending;

/** Announce a text, at most every 10 s; the newest replaces older ones. */
export function announce(text) {
  clearTimeout(pending);
  const write = () => { announcedAt = Date.now(); document.getElementById("announce").textContent = text; };
  const wait = announcedAt + PAUSE_MS - Date.now();
  if (wait <= 0) write();
  else pending = setTimeout(write, wait);
}
