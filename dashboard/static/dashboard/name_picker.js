// An input for several names, shown as chips; the server suggests names.
import { getJson } from "./telemetry_api.js";

const DELAY_MS = 150;
const SEPARATOR = /(?<!\\),/; // `\,` is a comma in a name

export class NamePicker extends EventTarget {
  /** @param addParameters adds parameters to the request for suggestions: (URLSearchParams) => void */
  constructor(box, addParameters = () => {}) {
    super();
    this.box = box;
    this.addParameters = addParameters;
    this.chips = box.querySelector("ul");
    this.input = box.querySelector("input");
    this.suggestions = box.querySelector("datalist");
    this.names = [];
    for (const name of JSON.parse(box.dataset.chosen)) this.add(name);
    this.input.addEventListener("input", (event) => this.typed(event));
    this.input.addEventListener("focus", () => this.suggest());
    this.input.addEventListener("change", () => this.take());
    this.input.addEventListener("keydown", (event) => this.key(event));
  }

  typed(event) {
    const text = this.input.value;
    // A choice from the list has this input type, or none in older browsers.
    const isChoice = !event.inputType || event.inputType === "insertReplacementText";
    if (SEPARATOR.test(text) || (isChoice && this.isSuggested(text))) this.take();
    else this.suggest();
  }

  key(event) {
    if (event.key === "Enter") {
      event.preventDefault(); // Enter adds a name and does not submit
      this.take();
    } else if (event.key === "Backspace" && !this.input.value && this.names.length) {
      this.remove(this.names[this.names.length - 1]);
    }
  }

  /** Add the suggestion that was chosen, or the typed names. */
  take() {
    const text = this.input.value;
    this.input.value = "";
    if (this.isSuggested(text)) this.add(text);
    else for (const name of text.split(SEPARATOR)) this.add(name.replaceAll("\\,", ",").trim());
  }

  isSuggested(text) {
    return [...this.suggestions.options].some((option) => option.value === text);
  }

  add(name) {
    if (!name || this.names.includes(name)) return;
    this.names.push(name);
    const chip = document.createElement("li");
    chip.className = "chip";
    const words = Object.assign(document.createElement("span"), { textContent: name, title: name });
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.setAttribute("aria-label", `Remove ${name}`);
    button.innerHTML = '<svg class="i" aria-hidden="true"><use href="#i-x"/></svg>';
    button.addEventListener("click", () => { this.remove(name); this.input.focus(); });
    const kept = Object.assign(document.createElement("input"), { type: "hidden", name: this.box.dataset.name, value: name });
    kept.dataset.kept = ""; // in the draft of the form
    chip.append(words, button, kept);
    chip.dataset.name = name;
    this.chips.append(chip);
    this.changed();
  }

  remove(name) {
    this.names = this.names.filter((one) => one !== name);
    for (const chip of [...this.chips.children]) if (chip.dataset.name === name) chip.remove();
    this.changed();
  }

  changed() {
    this.dispatchEvent(new Event("changed"));
    this.box.closest("form").dispatchEvent(new Event("input"));
  }

  suggest() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(async () => {
      const query = new URLSearchParams({ q: this.input.value.trim() });
      this.addParameters(query);
      const { names } = await getJson(`${this.box.dataset.source}?${query}`).catch(() => ({ names: [] }));
      const suggested = names.filter((name) => !this.names.includes(name));
      this.suggestions.replaceChildren(...suggested.map((name) => Object.assign(document.createElement("option"), { value: name })));
    }, DELAY_MS);
  }
}
