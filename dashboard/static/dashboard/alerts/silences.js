// The form of a silence: the reader's time zone, and the end time where no duration is selected.
import "./local_times.js";

const form = document.getElementById("silence");
if (form) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  form.elements.timezone.value = zone;
  form.querySelector("[data-zone]").textContent = zone;
  const until = form.querySelector("[data-until]");
  const show = () => { until.hidden = form.querySelector("[name=lasting]:checked")?.value !== "0"; };
  form.addEventListener("change", show);
  show();
}
