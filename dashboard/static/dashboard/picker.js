// Which metrics the chart shows, kept in the address so that it can be shared.
const MOST = 8;

/** @returns a function that chooses by names */
export function picker(card, metrics, chosenChanged) {
  const list = card.querySelector(".picker-list");
  const hint = card.querySelector("#picker-hint");
  const asked = new URLSearchParams(location.search).getAll("metric");
  let chosen = asked.filter((name) => metrics.some((metric) => metric.name === name)).slice(0, MOST);
  if (!chosen.length) chosen = metrics.slice(0, 1).map((metric) => metric.name);

  for (const metric of metrics) {
    const label = document.createElement("label");
    label.className = "check";
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: metric.name });
    const unit = Object.assign(document.createElement("span"), { className: "unit", textContent: metric.kind === "boolean" ? "on/off" : metric.unit });
    label.append(box, metric.name, unit);
    box.addEventListener("change", () => {
      choose(box.checked ? [...chosen, metric.name] : chosen.filter((name) => name !== metric.name));
    });
    list.append(label);
  }

  function choose(names) {
    chosen = names.slice(0, MOST);
    const address = new URLSearchParams(location.search);
    address.delete("metric");
    for (const name of chosen) address.append("metric", name);
    history.replaceState(null, "", `${location.pathname}?${address}`);
    show();
  }

  function show() {
    for (const box of list.querySelectorAll("input")) {
      box.checked = chosen.includes(box.value);
      box.disabled = !box.checked && chosen.length >= MOST;
    }
    hint.textContent = chosen.length >= MOST ? "Eight are chosen: take one away to add another" : "Up to eight at a time";
    chosenChanged(chosen.map((name) => metrics.find((metric) => metric.name === name)));
  }

  show();
  return choose;
}
