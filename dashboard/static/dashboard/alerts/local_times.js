// Writes the server's times in the reader's time zone.
import { clockText, dayText, momentText } from "../number_format.js";

for (const time of document.querySelectorAll("time[data-clock], time[data-moment]")) {
  const ms = Date.parse(time.dateTime);
  time.title = momentText(ms);
  time.textContent = "clock" in time.dataset ? clockText(ms, false) : `${dayText(ms)} ${clockText(ms)}`;
}
