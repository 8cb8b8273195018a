// Keeps the number of unacknowledged alerts ("3", "999+") in the title and beside the links to them.
import { subscribeChannels } from "../stream/stream.js";

function show(text) {
  const none = text === "0";
  for (const badge of document.querySelectorAll("[data-unacknowledged]")) {
    badge.hidden = none;
    badge.querySelector("b").textContent = text;
  }
  document.title = `${none ? "" : `(${text}) `}${document.title.replace(/^\(\d+\+?\) /, "")}`;
}

subscribeChannels(["dashboard"], {
  figures({ alerts: { unacknowledged, count_limit: limit } }) {
    show(unacknowledged < limit ? String(unacknowledged) : `${limit - 1}+`);
  },
});
