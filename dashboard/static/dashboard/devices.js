// The page of all devices.
import "./alerts/unacknowledged.js";
import { DeviceList } from "./device_list.js";
import { subscribeChannels } from "./stream/stream.js";

if (document.getElementById("devices")) {
  const list = new DeviceList({ everyMs: 1000 });
  subscribeChannels(["devices"], { event: (event) => list.apply(event) });
}
if (location.hash === "#search") document.getElementById("search").focus();
