// Says at the top of the page that its data is not refreshed, and since when; ages stop counting meanwhile.
const failing = new Map(); // [title, details, action] by source
const strap = document.getElementById("strap");

/**
 * Show that a source of the page's data fails: a short bold text and the details.
 * action: {text, href: a function} for a link, or {text, run} for a button.
 */
export function markStale(source, title, details, action = null) {
  failing.set(source, [title, details, action]);
  show();
}

export function markFresh(source) {
  if (failing.delete(source)) show();
}

function show() {
  document.body.classList.toggle("stale", failing.size > 0);
  strap.hidden = !failing.size;
  if (!failing.size) return;
  const [title, details, action] = failing.get("live") ?? failing.values().next().value;
  const text = strap.querySelector("span");
  // The same text again would be read out again.
  if (text.textContent !== `${title} ${details}`) text.replaceChildren(Object.assign(document.createElement("b"), { textContent: title }), ` ${details}`);
  const control = strap.querySelector("a, button");
  if (control?.textContent === (action?.text ?? undefined)) return;
  control?.remove();
  if (action) strap.append(controlOf(action));
}

function controlOf({ text, href, run }) {
  if (href) return Object.assign(document.createElement("a"), { className: "btn s", href: href(), textContent: text });
  const button = Object.assign(document.createElement("button"), { className: "btn s", type: "button", textContent: text });
  button.addEventListener("click", run);
  return button;
}
