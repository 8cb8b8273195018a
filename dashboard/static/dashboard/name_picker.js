// A field for several names: each becomes a chip. What is offered comes from the server while one types.
import { getJson } from "./telemetry_api.js";

const PAUSE_MS = 150;

export class NamePicker extends EventTarget {
  /** @param more adds to the question what is offered: (URLSearchParams) => void */
  constructor(box, more = () => {}) {
    super();
    this.box = box;
    this.more = more;
    this.chips = box.querySelector("ul");
    this.input = box.querySelector("input");
    this.offered = box.querySelector("datalist");
    this.names = [];
    for (const name of box.dataset.chosen.split(",")) this.add(name);
    this.input.addEventListener("input", (event) => this.typed(event));
    this.input.addEventListener("focus", () => this.offer());
    this.input.addEventListener("change", () => this.take());
    this.input.addEventListener("keydown", (event) => this.key(event));
  }

  typed(event) {
    const text = this.input.value;
    // A choice from the list says so, or (in older browsers) says nothing of how it came about.
    const isChoice = !event.inputType || event.inputType === "insertReplacementText";
    if (text.includes(",") || (isChoice && [...this.offered.options].some((option) => option.value === text))) this.take();
    else this.offer();
  }

  key(event) {
    if (event.key === "Enter") {
      event.preventDefault(); // a name too many is sooner mended than an export too many
      this.take();
    } else if (event.key === "Backspace" && !this.input.value && this.names.length) {
      this.remove(this.names[this.names.length - 1]);
    }
  }

  /** What was typed becomes names. */
  take() {
    const text = this.input.value;
    this.input.value = "";
    for (const name of text.split(",")) this.add(name);
  }

  add(text) {
    const name = text.trim();
    if (!name || this.names.includes(name)) return;
    this.names.push(name);
    const chip = document.createElement("li");
    chip.className = "chip";
    const words = Object.assign(document.createElement("span"), { textContent: name, title: name });
    const button = Object.assign(document.createElement("button"), { type: "button" });
    button.setAttribute("aria-label", `Remove ${name}`);
    button.innerHTML = '<svg class="i" aria-hidden="true"><use href="#i-x"/></svg>';
    button.addEventListener("click", () => { this.remove(name); this.input.focus(); });
    chip.append(words, button);
    chip.dataset.name = name;
    this.chips.append(chip);
    this.dispatchEvent(new Event("changed"));
  }

  remove(name) {
    this.names = this.names.filter((one) => one !== name);
    for (const chip of this.chips.children) if (chip.dataset.name === name) chip.remove();
    this.dispatchEvent(new Event("changed"));
  }

  offer() {
    clearTimeout(this.waiting);
    this.waiting = setTimeout(async () => {
      const question = new URLSearchParams({ q: this.input.value.trim() });
      this.more(question);
      const { names } = await getJson(`${this.box.dataset.source}?${question}`).catch(() => ({ names: [] }));
      this.offered.replaceChildren(...names.filter((name) => !this.names.includes(name)).map((name) => Object.assign(document.createElement("option"), { value: name })));
    }, PAUSE_MS);
  }
}
