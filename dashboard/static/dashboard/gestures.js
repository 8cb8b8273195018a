// Gestures of the chart: Shift and drag, Ctrl and wheel, two fingers, keys. Plain scrolling scrolls the page.
const KEYS = {
  "[": "earlier", "]": "later", "+": "closer", "=": "closer", "-": "wider", "−": "wider", t: "table", f: "follow", "0": "follow",
};
const FOCUSED_KEYS = { ArrowLeft: "earlier", ArrowRight: "later", Escape: "follow" };

/** verbs: the buttons' names; move(shareOfWidth), zoom(factor, atShare), hover(px | null) */
export function listen(element, verbs, { move, zoom, touch }) {
  const inside = (event) => {
    const box = element.querySelector(".u-over")?.getBoundingClientRect();
    return box ? { x: (event.clientX - box.left) / box.width, px: event.clientX - box.left, width: box.width } : null;
  };

  element.addEventListener("wheel", (event) => {
    const at = inside(event);
    if (!event.ctrlKey || !at) return;
    event.preventDefault(); // else the whole page zooms; a touchpad pinch is the same event
    zoom(Math.exp(Math.sign(event.deltaY) * Math.min(0.5, Math.abs(event.deltaY) / 200)), Math.min(1, Math.max(0, at.x)));
  }, { passive: false });

  const fingers = new Map();
  let panFrom = null;

  element.addEventListener("pointerdown", (event) => {
    const at = inside(event);
    if (!at || event.target.closest("button, a")) return;
    if (event.pointerType === "touch") {
      fingers.set(event.pointerId, event.clientX);
      if (fingers.size === 1) touch(at.px);
    } else if (event.shiftKey && event.button === 0) {
      panFrom = event.clientX;
      element.setPointerCapture(event.pointerId);
      element.classList.add("panning");
    }
  });

  element.addEventListener("pointermove", (event) => {
    const at = inside(event);
    if (!at) return;
    if (panFrom !== null) {
      move((panFrom - event.clientX) / at.width);
      panFrom = event.clientX;
    } else if (fingers.has(event.pointerId)) {
      const before = [...fingers.values()];
      fingers.set(event.pointerId, event.clientX);
      if (fingers.size === 1) touch(at.px);
      if (fingers.size === 2) pinch(before, [...fingers.values()], at.width);
    }
  });

  function pinch(before, after, width) {
    const [spread, spreadNow] = [Math.abs(before[0] - before[1]), Math.abs(after[0] - after[1])];
    const left = element.querySelector(".u-over").getBoundingClientRect().left;
    const middle = (after[0] + after[1]) / 2;
    move(((before[0] + before[1]) / 2 - middle) / width);
    if (spread > 20 && spreadNow > 20) zoom(spread / spreadNow, Math.min(1, Math.max(0, (middle - left) / width)));
  }

  const end = (event) => {
    panFrom = null;
    element.classList.remove("panning");
    if (fingers.delete(event.pointerId) && !fingers.size) touch(null);
  };
  element.addEventListener("pointerup", end);
  element.addEventListener("pointercancel", end);

  const press = (event, verb) => {
    if (!verb) return;
    event.preventDefault();
    verbs[verb]();
  };
  element.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey && !event.altKey) press(event, FOCUSED_KEYS[event.key]);
  });
  document.addEventListener("page-key", ({ detail: event }) => press(event, KEYS[event.key]));
}
