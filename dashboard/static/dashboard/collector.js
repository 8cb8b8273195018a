// The form of a collector: shows the inputs that matter with the selected values.

const form = document.querySelector("form.setup");

function showInputs() {
  for (const input of form.querySelectorAll("[data-shown-with]")) {
    const other = form.elements[input.dataset.shownWith];
    const field = input.closest(".field");
    field.hidden = other.value !== input.dataset.shownValue && !field.classList.contains("bad");
  }
}

form.addEventListener("change", showInputs);
showInputs();
