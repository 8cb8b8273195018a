// The SharedWorker that keeps one connection for all pages of one user in this browser.
import { Hub } from "./hub.js";

const hub = new Hub();

addEventListener("connect", ({ ports: [port] }) => {
  let number;
  port.onmessage = ({ data }) => {
    if (data.verb === "join") number = hub.join(data.urls, (message) => port.postMessage(message));
    else hub.receive(number, data);
  };
});
