// Every page: the theme, the keyboard shortcuts and the menus.
import "./ages.js";

const root = document.documentElement;

// A cookie, not local storage: the server writes the theme into <html>, so no page flashes in the wrong one.
for (const input of document.querySelectorAll("[data-theme-choice] input")) {
  input.addEventListener("change", () => {
    const theme = input.value;
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    const secure = location.protocol === "https:" ? "; Secure" : "";
    const age = theme === "system" ? 0 : 31536000;
    document.cookie = `telemetry_theme=${theme}; Path=/; Max-Age=${age}; SameSite=Lax${secure}`;
    document.dispatchEvent(new CustomEvent("theme-changed"));
  });
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new CustomEvent("theme-changed")));
// The time zone in which the next pages show times, unless another one is chosen in the settings.
{
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `telemetry_browser_time_zone=${Intl.DateTimeFormat().resolvedOptions().timeZone}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
}
// The error page 500 is rendered without a request, so without the cookie.
if (!root.dataset.theme) {
  const saved = document.cookie.match(/(?:^|; )telemetry_theme=(light|dark)(?:;|$)/);
  if (saved) root.dataset.theme = saved[1];
}

// Tell the other pages of this browser who is signed in, so that those of somebody else end their streams.
{
  const { user } = document.body.dataset;
  const tell = (signedIn) => new BroadcastChannel("telemetry user").postMessage(signedIn);
  if (user) tell(user);
  document.querySelector("form[data-sign-out]")?.addEventListener("submit", () => tell(null));
}

// Menus close when the focus leaves them.
for (const menu of document.querySelectorAll("details.me, details.picker, details.rest")) {
  document.addEventListener("pointerdown", (event) => { if (!menu.contains(event.target)) menu.open = false; });
  menu.addEventListener("focusout", (event) => { if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false; });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}

// Browsers allow the clipboard on localhost and over HTTPS only.
for (const button of navigator.clipboard ? document.querySelectorAll("[data-copy]") : []) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.querySelector("span").textContent = "Copied";
  });
}

const help = document.getElementById("keys");
const KEYS_OFF = "telemetry_keys_off";
const showHelp = () => help?.showModal();
for (const button of document.querySelectorAll("[data-show-keys]")) button.addEventListener("click", showHelp);
const switchBox = document.getElementById("keys-on");
if (switchBox) {
  switchBox.checked = !localStorage.getItem(KEYS_OFF);
  switchBox.addEventListener("change", () => {
    if (switchBox.checked) localStorage.removeItem(KEYS_OFF);
    else localStorage.setItem(KEYS_OFF, "1");
  });
}

const overview = document.querySelector("[data-section=overview]")?.href;
const alerts = document.querySelector("[data-section=alerts]")?.href;
const devices = document.querySelector("[data-section=devices]")?.href;
let afterG = 0;

function search() {
  const field = document.getElementById("search");
  if (field) { field.focus(); field.select(); } else location.href = devices + "#search";
}

function move(step) {
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + step))].focus();
}

const KEYS = {
  "/": search,
  "?": showHelp,
  j: () => move(1),
  k: () => move(-1),
  g: () => { afterG = Date.now(); },
};
const AFTER_G = { o: overview, a: alerts, d: devices };

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input:not([type=radio], [type=checkbox]), textarea, select, dialog, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || !devices) return;
  if (localStorage.getItem(KEYS_OFF)) return;
  const target = Date.now() - afterG < 1500 ? AFTER_G[event.key] : undefined;
  const verb = target ? () => { location.href = target; } : KEYS[event.key];
  if (!verb) {
    // Other keys belong to the chart or to the rows of the page.
    document.dispatchEvent(new CustomEvent("page-key", { detail: event }));
    return;
  }
  event.preventDefault();
  verb();
});
