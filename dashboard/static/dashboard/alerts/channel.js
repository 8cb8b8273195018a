// The forms of a channel and of a route: the inputs of the selected kind.

const channel = document.getElementById("channel");
if (channel) {
  const show = () => {
    const kind = channel.querySelector("[name=kind]:checked")?.value;
    for (const field of channel.querySelectorAll("[data-kinds]")) field.hidden = !field.dataset.kinds.split(" ").includes(kind);
  };
  channel.addEventListener("change", show);
  show();
}
