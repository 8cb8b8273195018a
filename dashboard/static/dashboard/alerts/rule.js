// The form of a rule: shows the inputs of the selected kind, and runs the backtest.
import { postJson } from "../telemetry_api.js";
import { Backtest } from "./backtest.js";

const form = document.getElementById("rule");

// --- the sentence -----------------------------------------------------------------------------------

function showKind() {
  const kind = form.querySelector("[name=kind]:checked")?.value;
  for (const part of form.querySelectorAll("[data-kinds]")) part.hidden = !part.dataset.kinds.split(" ").includes(kind);
}

function showLevel() {
  const level = form.elements.level.value;
  const sign = document.getElementById("level-sign");
  sign.className = `lv ${level}`;
  sign.querySelector("use").setAttribute("href", `#l-${level}`);
}

function showRowKind(row) {
  const kind = row.querySelector("[name=c_kind]").value;
  for (const part of row.querySelectorAll("[data-of]")) part.hidden = !part.dataset.of.split(" ").includes(kind);
}

form.addEventListener("change", ({ target }) => {
  if (target.name === "kind") showKind();
  if (target.name === "c_kind") showRowKind(target.closest("li"));
  if (target.name === "level") showLevel();
});
showKind();

// --- conditions of a composite rule -----------------------------------------------------------------------------

const MIN_CONDITIONS = 2;
const conditions = document.getElementById("conditions");
const add = document.getElementById("add-condition");

function showConditions() {
  for (const row of conditions.children) {
    showRowKind(row);
    row.querySelector("[data-remove]").hidden = conditions.children.length <= MIN_CONDITIONS;
  }
  add.hidden = conditions.children.length >= conditions.dataset.most;
}

add.addEventListener("click", () => {
  conditions.append(document.getElementById("blank-condition").content.cloneNode(true));
  showConditions();
  conditions.lastElementChild.querySelector("[name=c_metric_name]").focus();
});
conditions.addEventListener("click", ({ target }) => {
  const row = target.closest("[data-remove]")?.closest("li");
  if (!row) return;
  (row.previousElementSibling ?? row.nextElementSibling).querySelector("[name=c_metric_name]").focus();
  row.remove();
  showConditions();
});
// A draft may have more conditions than the saved rule.
form.addEventListener("draft-restoring", ({ detail }) => {
  while (conditions.children.length < (detail.c_kind?.length ?? 0) && !add.hidden) add.click();
});
// Blank rows are for browsers without scripts.
for (const row of conditions.querySelectorAll("[data-blank]")) if (conditions.children.length > MIN_CONDITIONS) row.remove();
showConditions();

// --- the backtest -----------------------------------------------------------------------------------

const card = document.getElementById("backtest");
if (card) {
  card.hidden = false;
  const backtest = new Backtest(card);
  const button = document.getElementById("run-backtest");
  button.addEventListener("click", async () => {
    button.disabled = true;
    const slow = setTimeout(() => backtest.showStatus("Replaying"), 300);
    try {
      const end = new Date();
      const start = new Date(end - card.querySelector("[name=back]:checked").value * 1000);
      const result = await postJson(card.dataset.url, { rule: await draft(), start_time: start.toISOString(), end_time: end.toISOString() });
      clearTimeout(slow);
      backtest.show(result, start.getTime(), end.getTime(), form.elements.level.value);
    } catch (error) {
      clearTimeout(slow);
      backtest.showStatus(`Not replayed: ${error.message}`);
    } finally {
      button.disabled = false;
    }
  });
}

/** Return the form as fields of the API. */
async function draft() {
  const response = await fetch(form.dataset.checkUrl, { method: "POST", body: new FormData(form), credentials: "same-origin" });
  const { document: fields, errors } = await response.json().catch(() => ({ errors: { form: [`HTTP ${response.status}`] } }));
  if (!fields) throw new Error(Object.entries(errors).map(([name, details]) => `${fieldText(name)}: ${details.join(", ")}`).join("; "));
  return fields;
}

/** Return the label of an API field: "condition 2, threshold value" of `conditions[1].threshold_value`. */
function fieldText(name) {
  return name.replace("__all__", "rule").replace(/^conditions\[(\d+)\]\./, (_all, at) => `condition ${Number(at) + 1}, `).replaceAll("_", " ");
}
