// Highlights a changed value for 0.6 s; the style sheet leaves the animation out for readers who want no motion.
export function write(element, text) {
  if (element.textContent === text) return false;
  element.textContent = text;
  element.classList.remove("flash");
  void element.offsetWidth; // restarts the animation
  element.classList.add("flash");
  return true;
}
