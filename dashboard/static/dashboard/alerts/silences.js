// The form of a silence: the end time where no duration is selected.
const form = document.getElementById("silence");
if (form) {
  const until = form.querySelector("[data-until]");
  const show = () => { until.hidden = form.querySelector("[name=lasting]:checked")?.value !== "0"; };
  form.addEventListener("change", show);
  show();
}
