// The evidence view: upload, mask, original and difference, compared in one place.
// In: the markup of evidence.html. Out: an object that the page's keys and the mask's editor talk to.

import { say } from "/static/keys.js";
import { sight } from "/static/sight.js";
import { View } from "/static/view.js";

export const STEP = 1.25;
const VIEW_SIDE = 1280; // pixels of the longer side that size=view has
const REDUCED = matchMedia("(prefers-reduced-motion: reduce)");

export class Evidence {
  /** `findings` is where the regions' buttons are, where they were moved out of `root`. */
  constructor(root, findings = root) {
    this.root = root;
    this.findings = findings;
    this.stage = root.querySelector(".stage");
    this.links = root.dataset;
    this.panes = root.querySelector("[data-panes]");
    this.upload = root.querySelector("[data-pane=upload]");
    this.regions = [...findings.querySelectorAll("[data-region]")];
    this.at = -1;
    this.opacity = sight.get().opacity;
    this.view = new View(Number(this.links.width), Number(this.links.height), () => this.#draw());
    this.#layers();
    this.#buttons();
    this.#pointer();
    for (const part of [root, findings]) for (const hidden of part.querySelectorAll(".modes, .marking, .corner.left, .corner.right, .keys")) hidden.hidden = false;
    root.classList.add("live");
    this.mode(this.panes.dataset.mode);
    sight.follow((chosen) => this.#see(chosen));
    this.watch = new ResizeObserver(() => this.#measure());
    this.watch.observe(this.upload);
    this.#measure();
  }

  /** Whoever takes the evidence off the page calls this. */
  close() {
    this.watch.disconnect();
    clearInterval(this.beat);
  }

  // -- what is compared ------------------------------------------------------------------------------------------

  get modes() { return [...this.root.querySelectorAll("[data-mode][aria-pressed]")].map((b) => b.dataset.mode); }

  mode(name) {
    if (!this.modes.includes(name)) return;
    this.panes.dataset.mode = name;
    for (const button of this.root.querySelectorAll("[data-mode][aria-pressed]")) button.ariaPressed = String(button.dataset.mode === name);
    if (name === "flicker" || name === "swipe") this.#lens("aligned");
    if (name === "difference") this.#lens("difference");
    this.#tag({ difference: "Difference, four-fold", swipe: "Upload | original" }[name] ?? "Upload");
    this.#outline();
    this.divider.hidden = name !== "swipe";
    const flicker = this.root.querySelector("[data-flicker]");
    flicker.hidden = name !== "flicker";
    this.swap(false);
    this.#pause(name !== "flicker" || REDUCED.matches);
    this.#measure();
  }

  /** Flicker: the other picture now, by hand. */
  swap(original = !this.upload.classList.contains("swapped")) {
    this.upload.classList.toggle("swapped", original);
    if (this.panes.dataset.mode === "flicker") this.#tag(original ? "Original" : "Upload");
  }

  pause() { this.#pause(this.beat !== null); }

  #pause(paused) {
    clearInterval(this.beat);
    this.beat = null;
    const button = this.root.querySelector("[data-act=pause]");
    button.ariaPressed = String(paused);
    if (!paused) this.beat = setInterval(() => this.swap(), 1000 / Number(this.root.querySelector("[data-rate]").value));
  }

  /** Swipe: where the upload ends and the original begins, 0..100. */
  swipe(percent) {
    const at = Math.min(100, Math.max(0, percent));
    this.divider.ariaValueNow = String(Math.round(at));
    this.upload.style.setProperty("--at", `${at}%`);
  }

  // -- the mask ------------------------------------------------------------------------------------------------------

  toggle(act) {
    const button = this.root.querySelector(`[data-act=${act}]`);
    if (!button) return;
    const on = button.ariaPressed !== "true";
    button.ariaPressed = String(on);
    if (act === "outline") this.#outline();
    this.root.classList.toggle(`no-${act}`, !on);
    say(`${button.firstChild.textContent.trim()} ${on ? "on" : "off"}`);
  }

  /** The line alone where it was asked for, and over the difference, which the mask's colour would hide. */
  #outline() {
    const mask = this.layers.get("mask");
    if (!mask) return;
    const asked = this.root.querySelector("[data-act=outline]").ariaPressed === "true";
    const name = asked || this.panes.dataset.mode === "difference" ? "outline" : "mask";
    if (mask.dataset.layer !== name) this.#source(mask, name);
  }

  fade(by) { this.#fade(this.opacity + by); sight.choose({ opacity: this.opacity }); }

  #fade(opacity) {
    this.opacity = Math.round(Math.min(1, Math.max(0, opacity)) * 20) / 20;
    const slider = this.root.querySelector("#opacity");
    if (slider) slider.value = String(this.opacity * 100);
    this.upload.style.setProperty("--mask", String(this.opacity));
  }

  // -- regions ----------------------------------------------------------------------------------------------------------

  region(by) {
    if (!this.regions.length) return;
    this.#goTo((this.at + by + this.regions.length) % this.regions.length);
  }

  #goTo(index) {
    this.at = index;
    this.regions.forEach((each, number) => each.setAttribute("aria-current", String(number === index)));
    const [x, y, width, height] = this.regions[index].dataset.region.split(",").map(Number);
    this.view.show({ x, y, width, height });
    this.regions[index].scrollIntoView({ block: "nearest" });
    say(`Region ${index + 1} of ${this.regions.length}`);
  }

  // -- seeing ------------------------------------------------------------------------------------------------------

  blur() { sight.choose({ blur: !sight.get().blur }); say(sight.get().blur ? "Blurred" : "Not blurred"); }
  grey() { sight.choose({ greyscale: !sight.get().greyscale }); say(sight.get().greyscale ? "Grey-scale" : "In colour"); }

  #see(chosen) {
    this.root.classList.toggle("blurred", chosen.blur);
    this.root.classList.toggle("grey", chosen.greyscale);
    this.root.querySelector("[data-act=blur]").ariaPressed = String(chosen.blur);
    this.root.querySelector("[data-act=grey]").ariaPressed = String(chosen.greyscale);
    this.#fade(chosen.opacity);
  }

  // -- how it is drawn -------------------------------------------------------------------------------------------------

  #layers() {
    this.layers = new Map();
    for (const image of this.root.querySelectorAll("[data-layer]")) this.#adopt(image, image.dataset.layer);
    this.divider = document.createElement("div");
    Object.assign(this.divider, { className: "divider", role: "slider", tabIndex: 0, ariaLabel: "Boundary between upload and original", ariaValueMin: "0", ariaValueMax: "100", hidden: true });
    this.divider.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -2, ArrowRight: 2, ArrowDown: -2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 }[event.key];
      if (by === undefined) return;
      event.preventDefault();
      event.stopPropagation();
      this.swipe(Number(this.divider.ariaValueNow) + by);
    });
    this.upload.append(this.divider);
    this.swipe(50);
  }

  #adopt(image, name) {
    image.draggable = false;
    image.width = this.view.width;
    image.height = this.view.height;
    image.dataset.size = "view";
    if (!(name === "aligned" && image.closest("[data-pane=original]"))) this.layers.set(name, image);
    else this.beside = image;
  }

  /** A further picture over the upload, fetched when it is first wanted. */
  #lens(name) {
    if (this.layers.has(name) || !this.links[name]) return;
    const lens = document.createElement("div");
    lens.className = "lens over";
    lens.dataset.lens = name;
    const sheet = document.createElement("div");
    sheet.className = "sheet";
    const image = new Image();
    image.alt = name === "aligned" ? "The original, laid onto the upload" : "Difference between upload and original";
    image.dataset.layer = name;
    sheet.append(image);
    lens.append(sheet);
    this.upload.querySelector("[data-lens=upload]").after(lens);
    this.#adopt(image, name);
    image.src = this.links[name];
  }

  #source(image, name) {
    image.dataset.layer = name;
    image.src = this.links[image.dataset.size === "full" ? `${name}Full` : name];
  }

  #measure() {
    const { clientWidth: wide, clientHeight: high } = this.panes;
    const { width, height } = this.view;
    const rows = Math.min(wide / width, high / 2 / height) > Math.min(wide / 2 / width, high / height);
    this.panes.dataset.flow = this.panes.dataset.mode === "side" && rows ? "rows" : "columns"; // what shows both larger
    this.view.resize(this.upload.clientWidth, this.upload.clientHeight);
  }

  #draw() {
    if (!this.layers) return;
    const { view } = this;
    for (const sheet of this.root.querySelectorAll(".pane:not(.loose) .sheet")) sheet.style.transform = view.transform;
    for (const boxes of this.root.querySelectorAll(".pane:not(.loose) [data-boxes]")) boxes.setAttribute("viewBox", view.viewBox);
    this.panes.classList.toggle("pixelated", view.pixelated);
    const zoom = this.root.querySelector("[data-zoom]");
    zoom.textContent = `${Math.round(view.scale * (window.devicePixelRatio || 1) * 100)}%`;
    this.#sharpen();
    this.moved?.();
  }

  /** Real pixels, once the view needs more than it has. */
  #sharpen() {
    const longer = Math.max(this.view.width, this.view.height);
    if (longer <= VIEW_SIDE || this.view.scale * (window.devicePixelRatio || 1) < 1.1 * (VIEW_SIDE / longer)) return;
    for (const image of [...this.layers.values(), this.beside]) {
      if (!image || image.dataset.size === "full" || image.closest(".loose")) continue;
      image.dataset.size = "full";
      const sharp = new Image();
      const name = image.dataset.layer;
      sharp.src = this.links[`${name}Full`];
      sharp.decode().then(() => { if (image.dataset.layer === name) image.src = sharp.src; }).catch(() => { image.dataset.size = "view"; });
    }
  }

  #tag(text) { this.upload.querySelector("[data-tag]").textContent = text; }

  // -- hands ---------------------------------------------------------------------------------------------------------------

  #buttons() {
    const acts = {
      in: () => this.view.zoom(STEP), out: () => this.view.zoom(1 / STEP), fit: () => this.view.fit(), pixels: () => this.pixels(),
      blur: () => this.blur(), grey: () => this.grey(), pause: () => this.pause(),
    };
    this.regions.forEach((button, index) => button.addEventListener("click", () => this.#goTo(index)));
    this.root.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      if (button.dataset.mode) this.mode(button.dataset.mode);
      else if (button.dataset.act) (acts[button.dataset.act] ?? (() => this.toggle(button.dataset.act)))();
    });
    this.root.querySelector("#opacity")?.addEventListener("input", (event) => this.#fade(event.target.value / 100));
    this.root.querySelector("#opacity")?.addEventListener("change", () => sight.choose({ opacity: this.opacity }));
    this.root.querySelector("[data-rate]").addEventListener("input", () => this.#pause(this.beat === null));
    this.root.classList.toggle("no-boxes", true);
  }

  pixels() { this.view.zoomTo(1 / (window.devicePixelRatio || 1)); }

  point(event, pane = this.upload) {
    const frame = pane.getBoundingClientRect();
    return { x: event.clientX - frame.left, y: event.clientY - frame.top };
  }

  #pointer() {
    for (const pane of this.root.querySelectorAll(".pane")) {
      pane.addEventListener("wheel", (event) => {
        event.preventDefault();
        this.view.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), this.point(event, pane));
      }, { passive: false });
      pane.addEventListener("dblclick", () => { if (!this.painting) this.view.fit(); });
      pane.addEventListener("pointerdown", (event) => this.#drag(event, pane));
    }
  }

  #drag(event, pane) {
    if (event.target.closest("button, input, label") || (this.painting && event.button === 0 && !event.altKey)) return;
    const divides = event.target === this.divider;
    pane.setPointerCapture(event.pointerId);
    let last = event;
    const move = (now) => {
      if (divides) this.swipe((100 * this.point(now).x) / this.view.pane.width);
      else this.view.pan(now.clientX - last.clientX, now.clientY - last.clientY);
      last = now;
    };
    pane.classList.add("dragged");
    pane.addEventListener("pointermove", move);
    pane.addEventListener("lostpointercapture", () => {
      pane.removeEventListener("pointermove", move);
      pane.classList.remove("dragged");
    }, { once: true });
  }
}
