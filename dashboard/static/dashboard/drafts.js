// Keeps what is typed into a form (`data-draft`) in the browser until it is saved, so that a lost session or a stopped
// server loses nothing. Secrets (`data-draft-without`: names of inputs) are not kept.
const PREFIX = "telemetry_draft:";
const MAX_AGE_MS = 7 * 86_400_000;
const { user } = document.body.dataset;

const FILLED_IN = ["device", "group", "rule", "metric"]; // parameters of links that fill forms in

/** Return the key of a form's draft. A draft must not replace the device of another link to the same form. */
function keyOf(form) {
  const filledIn = new URLSearchParams([...new URLSearchParams(location.search)].filter(([name]) => FILLED_IN.includes(name)));
  return `${PREFIX}${user}:${location.pathname}?${filledIn}:${form.dataset.draft}`;
}
const isChoice = (input) => input.type === "checkbox" || input.type === "radio";

function inputsOf(form) {
  const skipped = new Set((form.dataset.draftWithout ?? "").split(" "));
  const types = new Set(["password", "submit", "button", "reset", "file"]);
  const isKept = (input) => (input.type === "hidden" ? "kept" in input.dataset : !types.has(input.type));
  return [...form.elements].filter((input) => input.name && isKept(input) && !skipped.has(input.name) && !input.closest("fieldset:disabled"));
}

/** Return the values of the form by name, in the order of the page; of a choice, whether it is chosen. */
function valuesOf(form) {
  const values = {};
  for (const input of inputsOf(form)) (values[input.name] ??= []).push(isChoice(input) ? [input.value, input.checked] : input.value);
  return values;
}

function readDrafts() {
  return Object.keys(localStorage).filter((key) => key.startsWith(PREFIX)).map((key) => [key, JSON.parse(localStorage.getItem(key))]);
}

function save(form, submitted = false) {
  localStorage.setItem(keyOf(form), JSON.stringify({ at: Date.now(), submitted, values: valuesOf(form) }));
}

function forgetDraft(form) {
  localStorage.removeItem(keyOf(form));
  form.querySelector(".draft-note")?.remove();
}

function restore(form, values) {
  form.dispatchEvent(new CustomEvent("draft-restoring", { detail: values }));
  const used = {};
  for (const input of inputsOf(form)) {
    const at = used[input.name] = (used[input.name] ?? -1) + 1;
    const value = values[input.name]?.[at];
    if (value === undefined || input.type === "hidden") continue;
    if (!isChoice(input)) input.value = value;
    else input.checked = (values[input.name].find(([choice]) => choice === input.value) ?? [0, input.checked])[1];
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }
  const note = document.createElement("p");
  note.className = "strap tint draft-note";
  const button = Object.assign(document.createElement("button"), { type: "button", className: "btn s", textContent: "Discard" });
  button.addEventListener("click", () => { forgetDraft(form); location.reload(); });
  note.setAttribute("role", "status");
  note.append(Object.assign(document.createElement("span"), { textContent: "Unsaved input restored." }), button);
  form.prepend(note);
}

// A page that says that something was saved follows the submission that saved it.
const isSaved = document.querySelector("[data-saved]");
for (const [key, draft] of readDrafts()) {
  if ((isSaved && draft.submitted && key.startsWith(`${PREFIX}${user}:`)) || Date.now() - draft.at > MAX_AGE_MS) localStorage.removeItem(key);
}

for (const form of document.querySelectorAll("form[data-draft]")) {
  const draft = JSON.parse(localStorage.getItem(keyOf(form)));
  if (draft && JSON.stringify(draft.values) !== JSON.stringify(valuesOf(form))) restore(form, draft.values);
  form.addEventListener("input", () => save(form));
  form.addEventListener("change", ({ isTrusted }) => { if (isTrusted) save(form); });
  form.addEventListener("submit", () => { if (localStorage.getItem(keyOf(form))) save(form, true); });
  // A script that sends the form says that it is saved.
  for (const end of ["reset", "saved"]) form.addEventListener(end, () => forgetDraft(form));
}

document.querySelector("form[data-sign-out]")?.addEventListener("submit", () => {
  for (const [key] of readDrafts()) if (key.startsWith(`${PREFIX}${user}:`)) localStorage.removeItem(key);
});
