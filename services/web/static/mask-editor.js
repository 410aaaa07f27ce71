// The mask's correction: brush, eraser and polygon in the upload's own pixels, by hand or by keyboard alone.
// In: an evidence view, whose panes it paints on. Out: a grey PNG of the upload's size, 0 untouched, 255 manipulated.

import { say } from "/static/keys.js";
import { greyPng } from "/static/png.js";

const COLOUR = "rgb(226, 62, 36)";
const HALF = 128; // alpha from which on a pixel of the canvas counts: its edges are smooth, a mask's are not
const MOST_STEPS = 200;
const MOST_BYTES = 256e6; // of what can be undone
const SVG = "http://www.w3.org/2000/svg";

export class MaskEditor {
  constructor(evidence) {
    this.evidence = evidence;
    this.width = evidence.view.width;
    this.height = evidence.view.height;
    this.tool = "brush";
    this.size = Math.max(4, Math.round(Math.max(this.width, this.height) / 40));
    this.cursor = { x: Math.round(this.width / 2), y: Math.round(this.height / 2) };
    this.changed = false;
    this.steps = [];
    this.place = 0;
    this.corners = [];
    this.penDown = false;
    this.#build();
    this.ready = this.#start();
  }

  #build() {
    const layer = document.createElement("div");
    layer.className = "marks painted";
    const sheet = document.createElement("div");
    sheet.className = "sheet";
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-label", "The corrected mask");
    this.before = document.createElement("canvas");
    for (const each of [this.canvas, this.before]) Object.assign(each, { width: this.width, height: this.height });
    this.paint = this.canvas.getContext("2d", { willReadFrequently: true });
    this.kept = this.before.getContext("2d", { willReadFrequently: true });
    sheet.append(this.canvas);
    layer.append(sheet);
    this.drawing = document.createElementNS(SVG, "svg");
    this.drawing.setAttribute("class", "boxes pen");
    this.drawing.setAttribute("aria-hidden", "true");
    this.ring = document.createElementNS(SVG, "circle");
    this.line = document.createElementNS(SVG, "polyline");
    this.drawing.append(this.line, this.ring);
    this.evidence.upload.append(layer, this.drawing);
    this.layer = layer;
    this.listeners = new AbortController();
    const pane = this.evidence.upload;
    const given = { signal: this.listeners.signal };
    pane.addEventListener("pointerdown", (event) => this.#press(event), given);
    pane.addEventListener("pointermove", (event) => { if (this.open && !this.stroke) this.#moveTo(this.#at(event)); }, given);
    pane.addEventListener("dblclick", () => { if (this.open && this.tool === "polygon") this.closePolygon(); }, given);
  }

  // -- open and closed ---------------------------------------------------------------------------------------------------

  get open() { return this.evidence.painting === true; }

  set open(open) {
    this.evidence.painting = open;
    this.evidence.root.classList.toggle("painting", open);
    this.evidence.moved = open ? () => this.#show() : null;
    if (open) this.evidence.mode(this.evidence.panes.dataset.mode === "side" ? "side" : "only");
    if (!open) { this.lift(); this.corners = []; }
    this.evidence.root.classList.toggle("corrected", this.changed);
    this.#show();
  }

  /** Takes everything off the page. */
  remove() {
    this.open = false;
    this.evidence.root.classList.remove("corrected");
    this.listeners.abort();
    this.layer.remove();
    this.drawing.remove();
  }

  // -- what is painted ---------------------------------------------------------------------------------------------------

  /** The machine's mask as its decision, or nothing where it made none. */
  async #start() {
    const address = this.evidence.links.flagged;
    if (!address) return;
    const image = new Image();
    image.src = address;
    await image.decode();
    this.paint.imageSmoothingEnabled = false;
    this.paint.drawImage(image, 0, 0, this.width, this.height);
    const STRIP = 256;
    for (let from = 0; from < this.height; from += STRIP) {
      const strip = this.paint.getImageData(0, from, this.width, Math.min(STRIP, this.height - from));
      for (let at = 0; at < strip.data.length; at += 4) {
        const flagged = strip.data[at] >= HALF;
        strip.data.set(flagged ? [226, 62, 36, 255] : [0, 0, 0, 0], at);
      }
      this.paint.putImageData(strip, 0, from);
    }
    this.machine = this.paint.getImageData(0, 0, this.width, this.height);
    this.kept.putImageData(this.machine, 0, 0);
  }

  async png() {
    await this.ready;
    return greyPng(this.width, this.height, (from, count) => {
      const { data } = this.paint.getImageData(0, from, this.width, count);
      const grey = new Uint8Array(count * this.width);
      for (let at = 0; at < grey.length; at += 1) grey[at] = data[4 * at + 3] >= HALF ? 255 : 0;
      return grey;
    });
  }

  clear() {
    this.paint.clearRect(0, 0, this.width, this.height);
    this.#commit({ left: 0, top: 0, right: this.width, bottom: this.height });
    say("Mask cleared");
  }

  async machines() {
    await this.ready;
    this.paint.clearRect(0, 0, this.width, this.height);
    if (this.machine) this.paint.putImageData(this.machine, 0, 0);
    this.#commit({ left: 0, top: 0, right: this.width, bottom: this.height });
    say("The machine’s mask");
  }

  // -- strokes ------------------------------------------------------------------------------------------------------------

  choose(tool) {
    this.lift();
    this.corners = [];
    this.tool = tool;
    say({ brush: "Brush", eraser: "Eraser", polygon: "Polygon: space sets a corner, Enter closes it" }[tool]);
    this.toolChanged?.();
    this.#show();
  }

  resize(factor) { this.setSize(Math.max(this.size + Math.sign(factor - 1), Math.round(this.size * factor))); }

  setSize(size) {
    this.size = Math.min(400, Math.max(1, size));
    this.toolChanged?.();
    this.#show();
  }

  /** By keyboard: the pen goes down or up where the cross is; with the polygon a corner is set. */
  pen() {
    if (this.tool === "polygon") { this.#corner(this.cursor); return; }
    if (this.penDown) { this.lift(); return; }
    this.penDown = true;
    this.#line(this.cursor, this.cursor);
    say("Pen down");
  }

  lift() {
    if (!this.penDown) return;
    this.penDown = false;
    this.#commit(this.dirty);
    say("Pen up");
  }

  move(x, y, fast) {
    const step = Math.max(1, Math.round(this.size / 4)) * (fast ? 5 : 1);
    const to = { x: this.cursor.x + x * step, y: this.cursor.y + y * step };
    to.x = Math.min(this.width - 1, Math.max(0, to.x));
    to.y = Math.min(this.height - 1, Math.max(0, to.y));
    if (this.penDown) this.#line(this.cursor, to);
    this.#moveTo(to);
    this.evidence.view.follow(to);
  }

  closePolygon() {
    if (this.corners.length >= 3) {
      const xs = this.corners.map((corner) => corner.x), ys = this.corners.map((corner) => corner.y);
      this.paint.globalCompositeOperation = "source-over";
      this.paint.fillStyle = COLOUR;
      this.paint.beginPath();
      for (const { x, y } of this.corners) this.paint.lineTo(x + 0.5, y + 0.5);
      this.paint.fill();
      this.#commit({ left: Math.min(...xs) - 1, top: Math.min(...ys) - 1, right: Math.max(...xs) + 2, bottom: Math.max(...ys) + 2 });
      say("Polygon filled");
    }
    this.corners = [];
    this.#show();
  }

  #corner(point) {
    this.corners.push({ ...point });
    say(`Corner ${this.corners.length}`);
    this.#show();
  }

  #at(event) {
    const { x, y } = this.evidence.view.toPicture(this.evidence.point(event));
    return { x: Math.floor(x), y: Math.floor(y) };
  }

  #press(event) {
    if (!this.open || event.button !== 0 || event.altKey || event.target.closest("button, input, label, .divider")) return;
    const at = this.#at(event);
    this.#moveTo(at);
    if (this.tool === "polygon") { this.#corner(at); return; }
    this.lift();
    const pane = this.evidence.upload;
    pane.setPointerCapture(event.pointerId);
    this.stroke = at;
    this.#line(at, at);
    const move = (now) => {
      for (const each of now.getCoalescedEvents?.() ?? [now]) {
        const to = this.#at(each);
        this.#line(this.stroke, to);
        this.stroke = to;
      }
      this.#moveTo(this.stroke);
    };
    pane.addEventListener("pointermove", move);
    pane.addEventListener("lostpointercapture", () => {
      pane.removeEventListener("pointermove", move);
      this.stroke = null;
      this.#commit(this.dirty);
    }, { once: true });
  }

  #line(from, to) {
    const { paint } = this;
    paint.globalCompositeOperation = this.tool === "eraser" ? "destination-out" : "source-over";
    Object.assign(paint, { strokeStyle: COLOUR, lineWidth: this.size, lineCap: "round", lineJoin: "round" });
    paint.beginPath();
    paint.moveTo(from.x + 0.5, from.y + 0.5);
    paint.lineTo(to.x + 0.5, to.y + 0.5);
    paint.stroke();
    const reach = this.size / 2 + 2;
    const { dirty } = this;
    const box = { left: Math.min(from.x, to.x) - reach, top: Math.min(from.y, to.y) - reach, right: Math.max(from.x, to.x) + reach, bottom: Math.max(from.y, to.y) + reach };
    this.dirty = dirty ? { left: Math.min(dirty.left, box.left), top: Math.min(dirty.top, box.top), right: Math.max(dirty.right, box.right), bottom: Math.max(dirty.bottom, box.bottom) } : box;
  }

  // -- undo and redo -----------------------------------------------------------------------------------------------------

  #commit(box) {
    this.dirty = null;
    if (!box) return;
    const x = Math.max(0, Math.floor(box.left)), y = Math.max(0, Math.floor(box.top));
    const width = Math.min(this.width, Math.ceil(box.right)) - x, height = Math.min(this.height, Math.ceil(box.bottom)) - y;
    if (width <= 0 || height <= 0) return;
    const step = { x, y, before: this.kept.getImageData(x, y, width, height), after: this.paint.getImageData(x, y, width, height) };
    this.kept.putImageData(step.after, x, y);
    this.steps.length = this.place;
    this.steps.push(step);
    const bytes = () => this.steps.reduce((sum, each) => sum + 2 * each.before.data.length, 0);
    while (this.steps.length > 1 && (this.steps.length > MOST_STEPS || bytes() > MOST_BYTES)) this.steps.shift();
    this.place = this.steps.length;
    this.changed = true;
    this.touched?.();
  }

  undo() {
    this.lift();
    if (!this.place) return;
    this.place -= 1;
    this.#put(this.steps[this.place], "before");
    say("Undone");
  }

  redo() {
    if (this.place === this.steps.length) return;
    this.place += 1;
    this.#put(this.steps[this.place - 1], "after");
    say("Redone");
  }

  #put(step, which) {
    this.paint.putImageData(step[which], step.x, step.y);
    this.kept.putImageData(step[which], step.x, step.y);
    this.changed = this.place > 0;
    this.touched?.();
  }

  // -- the cross, the ring, the polygon's line ------------------------------------------------------------------------------

  #moveTo(point) {
    this.cursor = point;
    this.#show();
  }

  #show() {
    this.drawing.setAttribute("viewBox", this.evidence.view.viewBox);
    this.drawing.classList.toggle("off", !this.open);
    const { x, y } = this.cursor;
    this.ring.setAttribute("cx", x + 0.5);
    this.ring.setAttribute("cy", y + 0.5);
    this.ring.setAttribute("r", this.tool === "polygon" ? 3 / this.evidence.view.scale : this.size / 2);
    const corners = this.corners.length ? [...this.corners, this.cursor] : [];
    this.line.setAttribute("points", corners.map((corner) => `${corner.x + 0.5},${corner.y + 0.5}`).join(" "));
  }
}
