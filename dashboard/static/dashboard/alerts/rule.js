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

form.addEventListener("change", ({ target }) => {
  if (target.name === "kind") showKind();
  if (target.name === "level") showLevel();
});
showKind();

const add = document.getElementById("add-condition");
add.hidden = false;
add.addEventListener("click", () => {
  const list = document.getElementById("several");
  const made = list.lastElementChild.cloneNode(true);
  for (const input of made.querySelectorAll("input")) input.value = "";
  list.append(made);
  made.querySelector("[name=c_metric]").focus();
});

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
  if (!fields) throw new Error(Object.entries(errors).map(([name, told]) => `${name.replaceAll("_", " ")}: ${told.join(", ")}`).join("; "));
  return fields;
}
