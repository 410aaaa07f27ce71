// The keys of the evidence view, for every page that has one.

import { STEP } from "/static/evidence.js";

const PAN = 60; // CSS pixels an arrow key moves

/** The keys of an evidence view. `of` gives the one that is on the page, so that a page may exchange it. */
export function evidenceKeys(keys, of) {
  const has = () => Boolean(of());
  const key = (name, label, run, more = {}) => keys.add({ key: name, label, run: (event) => run(of(), event), when: has, ...more });
  key("s", "Side by side", (e) => e.mode("side"));
  key("f", "Flicker", (e) => e.mode("flicker"));
  key(" ", "Flicker: pause, or change by hand", (e) => (e.beat ? e.pause() : e.swap()), { when: () => of()?.panes.dataset.mode === "flicker" });
  key("w", "Swipe; arrow keys move the boundary", (e) => { e.mode("swipe"); if (!e.divider.hidden) e.divider.focus(); });
  key("d", "Difference, four-fold", (e) => e.mode("difference"));
  key("o", "Upload only", (e) => e.mode("only"));
  key("h", "Hide or show the mask", (e) => e.toggle("mask"));
  key("l", "Outline only", (e) => e.toggle("outline"));
  key("r", "Boxes of the regions", (e) => e.toggle("boxes"));
  key(",", "Mask fainter", (e) => e.fade(-0.1), { repeats: true });
  key(".", "Mask stronger", (e) => e.fade(0.1), { repeats: true });
  key("j", "Next region", (e) => e.region(1));
  key("Shift+j", "Region before", (e) => e.region(-1));
  key("b", "Blur; held: only look", (e) => e.blur(), { held: () => of()?.blur() });
  key("g", "Grey-scale", (e) => e.grey());
  key(["+", "="], "Zoom in", (e) => e.view.zoom(STEP), { repeats: true });
  key("-", "Zoom out", (e) => e.view.zoom(1 / STEP), { repeats: true });
  key("0", "Fit", (e) => e.view.fit());
  key("x", "One pixel to one pixel", (e) => e.pixels());
  const arrows = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] };
  key(Object.keys(arrows), "Move, while the pictures have the focus", (e, event) => e.view.pan(...arrows[event.key]), {
    repeats: true, when: () => has() && of().panes.contains(document.activeElement),
  });
}
