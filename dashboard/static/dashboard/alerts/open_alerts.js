// Refreshes the overview's summary of open alerts, which the server renders.
import { tick } from "../ages.js";
import { announce } from "../live.js";
import { refreshing } from "../refresh.js";
import { getPart } from "../telemetry_api.js";
import { showUnacknowledged } from "./unacknowledged.js";

const INTERVAL_MS = 5000;
const part = document.getElementById("open-alerts-part");

async function refresh() {
  const response = document.hidden ? null : await refreshing(() => getPart(part.dataset.url));
  if (response) show(await response.text(), response.headers.get("X-Unacknowledged"));
  setTimeout(refresh, INTERVAL_MS);
}

let shown = part.querySelector("h2")?.textContent;
function show(html, count) {
  showUnacknowledged(count);
  const rendered = new DOMParser().parseFromString(html, "text/html").body;
  const title = rendered.querySelector("h2")?.textContent;
  // A link under the pointer or with the focus stays where it is.
  if (title === shown && text(part) === text(rendered)) return;
  if (part.matches(":focus-within")) return;
  part.replaceChildren(...rendered.childNodes);
  if (title && title !== shown) announce(title);
  shown = title;
  tick();
}

const text = (element) => [...element.querySelectorAll("p")].map((part) => part.textContent.replace(/\s+/g, " ")).join("");

setTimeout(refresh, INTERVAL_MS);
