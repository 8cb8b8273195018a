// Shows the number of unacknowledged alerts ("0", "3", "999+") in the title and beside the links to them.
export function showUnacknowledged(count) {
  const none = count === "0";
  for (const badge of document.querySelectorAll("[data-unacknowledged]")) {
    badge.hidden = none;
    badge.querySelector("b").textContent = count;
  }
  document.title = `${none ? "" : `(${count}) `}${document.title.replace(/^\(\d+\+?\) /, "")}`;
}
