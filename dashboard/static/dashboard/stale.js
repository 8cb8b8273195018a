// Says at the top of the page that its data is not refreshed, and since when; ages stop counting meanwhile.
const failing = new Map(); // text by source
const strap = document.getElementById("strap");

/** Show that a source of the page's data fails: a short bold text, and the details. */
export function markStale(source, title, details) {
  failing.set(source, [title, details]);
  show();
}

export function markFresh(source) {
  if (failing.delete(source)) show();
}

function show() {
  document.body.classList.toggle("stale", failing.size > 0);
  strap.hidden = !failing.size;
  if (!failing.size) return;
  const [title, details] = failing.values().next().value;
  strap.querySelector("span").replaceChildren(Object.assign(document.createElement("b"), { textContent: title }), ` ${details}`);
}
