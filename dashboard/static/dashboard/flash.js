// A number that changed is tinted for 0.6 s; the style sheet does the tinting and leaves it out where motion is unwanted.
export function write(element, text) {
  if (element.textContent === text) return false;
  element.textContent = text;
  element.classList.remove("flash");
  void element.offsetWidth; // starts the animation anew
  element.classList.add("flash");
  return true;
}
