// How many alerts need someone, in the server's words ("0", "3", "999+"): in the title and beside the links to them.
export function showWaiting(words) {
  const none = words === "0";
  for (const count of document.querySelectorAll("[data-waiting]")) {
    count.hidden = none;
    count.querySelector("b").textContent = words;
  }
  document.title = `${none ? "" : `(${words}) `}${document.title.replace(/^\(\d+\+?\) /, "")}`;
}
