// Events that change what pages show of alerts: of the alerts themselves, and of the silences that cover them.
import { subscribeChannels } from "../stream/stream.js";

const IN_TIMELINE_ONLY = ["commented", "failed", "worst_value"]; // changes of alerts that rows and counts do not show

/** Call `refresh` after such an event. isShown(event of an alert): whether the page shows the alert. */
export function followAlerts(refresh, { isShown = () => true, timeline = false } = {}) {
  subscribeChannels(["alerts", "definitions"], {
    event(event) {
      const isSilence = event.type.startsWith("silence.");
      const isAlert = event.subject.startsWith("alert/") && isShown(event) && (timeline || !IN_TIMELINE_ONLY.includes(event.data.change));
      if (isSilence || isAlert) refresh();
    },
    resync: refresh,
  });
}
