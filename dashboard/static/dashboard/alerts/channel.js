// The forms of a channel and of a route: the inputs of the selected kind, and the reader's time zone.
import "./local_times.js";

const channel = document.getElementById("channel");
if (channel) {
  const show = () => {
    const kind = channel.querySelector("[name=kind]:checked")?.value;
    for (const field of channel.querySelectorAll("[data-kinds]")) field.hidden = !field.dataset.kinds.split(" ").includes(kind);
  };
  channel.addEventListener("change", show);
  show();
}

const zone = document.querySelector("#route [name=timezone]");
if (zone && !zone.value) {
  zone.value = Intl.DateTimeFormat().resolvedOptions().timeZone;
  document.querySelector("[data-zone]").textContent = zone.value;
}
