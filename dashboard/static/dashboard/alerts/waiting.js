// How many alerts need someone: in the title and beside the links that lead to them.
export function showWaiting(number) {
  for (const count of document.querySelectorAll("[data-waiting]")) {
    count.hidden = !number;
    count.querySelector("b").textContent = number;
  }
  document.title = `${number ? `(${number}) ` : ""}${document.title.replace(/^\(\d+\) /, "")}`;
}
