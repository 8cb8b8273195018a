// The metrics of the chart, kept in the address so that it can be shared.
const MAX_METRICS = 8;

/** @returns a function that selects metrics by name */
export function metricPicker(card, metrics, onChange) {
  const list = card.querySelector(".picker-list");
  const hint = card.querySelector("#picker-hint");
  const requested = new URLSearchParams(location.search).getAll("metric");
  let selected = requested.filter((name) => metrics.some((metric) => metric.name === name)).slice(0, MAX_METRICS);
  if (!selected.length) selected = metrics.slice(0, 1).map((metric) => metric.name);

  for (const metric of metrics) {
    const label = document.createElement("label");
    label.className = "check";
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: metric.name });
    const unit = Object.assign(document.createElement("span"), { className: "unit", textContent: metric.kind === "boolean" ? "on/off" : metric.unit });
    label.append(box, metric.name, unit);
    box.addEventListener("change", () => {
      select(box.checked ? [...selected, metric.name] : selected.filter((name) => name !== metric.name));
    });
    list.append(label);
  }

  function select(names) {
    selected = names.slice(0, MAX_METRICS);
    const address = new URLSearchParams(location.search);
    address.delete("metric");
    for (const name of selected) address.append("metric", name);
    history.replaceState(null, "", `${location.pathname}?${address}`);
    show();
  }

  function show() {
    for (const box of list.querySelectorAll("input")) {
      box.checked = selected.includes(box.value);
      box.disabled = !box.checked && selected.length >= MAX_METRICS;
    }
    hint.textContent = selected.length >= MAX_METRICS ? "Eight are selected: remove one to add another" : "Up to eight at a time";
    onChange(selected.map((name) => metrics.find((metric) => metric.name === name)));
  }

  show();
  return select;
}
