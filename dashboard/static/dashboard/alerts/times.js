// Moments that the server wrote in its own zone, in the reader's.
import { clockText, dayText, momentText } from "../values.js";

for (const time of document.querySelectorAll("time[data-clock], time[data-moment]")) {
  const ms = Date.parse(time.dateTime);
  time.title = momentText(ms);
  time.textContent = "clock" in time.dataset ? clockText(ms, false) : `${dayText(ms)} ${clockText(ms)}`;
}
