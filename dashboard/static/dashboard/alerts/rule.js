// A rule: the sentence shows what its kind asks for, and a backtest shows what it would have done.
import { postJson } from "../telemetry_api.js";
import { Backtest } from "./backtest.js";
import "./times.js";

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

function showPart(row) {
  const kind = row.querySelector("[name=c_kind]").value;
  for (const part of row.querySelectorAll("[data-of]")) part.hidden = !part.dataset.of.split(" ").includes(kind);
}

form.addEventListener("change", ({ target }) => {
  if (target.name === "kind") showKind();
  if (target.name === "c_kind") showPart(target.closest("li"));
  if (target.name === "level") showLevel();
});
showKind();

// --- several conditions -----------------------------------------------------------------------------

const LEAST = 2;
const several = document.getElementById("several");
const add = document.getElementById("add-condition");

function showSeveral() {
  for (const row of several.children) {
    showPart(row);
    row.querySelector("[data-remove]").hidden = several.children.length <= LEAST;
  }
  add.hidden = several.children.length >= several.dataset.most;
}

add.addEventListener("click", () => {
  several.append(document.getElementById("another").content.cloneNode(true));
  showSeveral();
  several.lastElementChild.querySelector("[name=c_metric_name]").focus();
});
several.addEventListener("click", ({ target }) => {
  const row = target.closest("[data-remove]")?.closest("li");
  if (!row) return;
  (row.previousElementSibling ?? row.nextElementSibling).querySelector("[name=c_metric_name]").focus();
  row.remove();
  showSeveral();
});
// Blank ones are for whoever cannot add any.
for (const row of several.querySelectorAll("[data-blank]")) if (several.children.length > LEAST) row.remove();
showSeveral();

// --- the backtest -----------------------------------------------------------------------------------

const card = document.getElementById("backtest");
if (card) {
  card.hidden = false;
  const shown = new Backtest(card);
  const button = document.getElementById("try");
  button.addEventListener("click", async () => {
    button.disabled = true;
    const slow = setTimeout(() => shown.say("Replaying"), 300);
    try {
      const end = new Date();
      const start = new Date(end - card.querySelector("[name=back]:checked").value * 1000);
      const answer = await postJson("/api/v1/telemetry/alerts/backtest", { rule: await draft(), start_time: start.toISOString(), end_time: end.toISOString() });
      clearTimeout(slow);
      shown.show(answer, start.getTime(), end.getTime(), form.elements.level.value);
    } catch (error) {
      clearTimeout(slow);
      shown.say(`Not replayed: ${error.message}`);
    } finally {
      button.disabled = false;
    }
  });
}

/** The form as the fields of the API. */
async function draft() {
  const answer = await fetch(form.dataset.check, { method: "POST", body: new FormData(form), credentials: "same-origin" });
  const { document: fields, errors } = await answer.json().catch(() => ({ errors: { form: [`the server answered ${answer.status}`] } }));
  if (!fields) throw new Error(Object.entries(errors).map(([name, told]) => `${fieldText(name)}: ${told.join(", ")}`).join("; "));
  return fields;
}

/** `conditions[1].threshold_value` is "condition 2, threshold value". */
function fieldText(name) {
  return name.replace(/^conditions\[(\d+)\]\./, (_all, at) => `condition ${Number(at) + 1}, `).replaceAll("_", " ");
}
