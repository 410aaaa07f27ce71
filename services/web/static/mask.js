// The mask's opacity follows the slider. Without scripts the mask is simply shown.
const mask = document.getElementById("mask");
const slider = document.getElementById("opacity");
if (mask && slider) {
  slider.closest("label").hidden = false;
  const follow = () => { mask.style.opacity = slider.value / 100; };
  slider.addEventListener("input", follow);
  follow(); // a reloaded page keeps the slider's place
}
