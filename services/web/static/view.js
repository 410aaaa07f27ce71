// Which part of the upload is seen, and how large: one view for all panes, so that they move together.
// Scale is CSS pixels for one pixel of the upload; the centre is in the upload's pixels.

const MOST = 32;
const SMOOTH_UNTIL = 2; // CSS pixels: beyond, single pixels are shown as squares

export class View {
  constructor(width, height, changed) {
    Object.assign(this, { width, height, changed, pane: { width: 1, height: 1 } });
    this.fitted = true;
    this.fit();
  }

  /** The size of a pane, in CSS pixels. Whoever had everything in view keeps it so. */
  resize(width, height) {
    this.pane = { width: Math.max(1, width), height: Math.max(1, height) };
    if (this.fitted) this.fit(); else this.#settle();
  }

  get least() { return Math.min(this.pane.width / this.width, this.pane.height / this.height); }

  get pixelated() { return this.scale * (window.devicePixelRatio || 1) > SMOOTH_UNTIL; }

  fit() {
    this.fitted = true;
    Object.assign(this, { scale: this.least, x: this.width / 2, y: this.height / 2 });
    this.#settle();
  }

  /** By a factor, about a point of the pane in CSS pixels, or about its centre. */
  zoom(factor, at = { x: this.pane.width / 2, y: this.pane.height / 2 }) { this.zoomTo(this.scale * factor, at); }

  zoomTo(scale, at = { x: this.pane.width / 2, y: this.pane.height / 2 }) {
    const under = this.toPicture(at);
    this.scale = Math.min(MOST, Math.max(this.least, scale));
    this.fitted = this.scale <= this.least * 1.001;
    this.x = under.x - (at.x - this.pane.width / 2) / this.scale;
    this.y = under.y - (at.y - this.pane.height / 2) / this.scale;
    this.#settle();
  }

  /** By CSS pixels. */
  pan(x, y) {
    this.x -= x / this.scale;
    this.y -= y / this.scale;
    this.#settle();
  }

  /** A box of the upload, with some of what is around it. */
  show(box) {
    const around = 1.6;
    const scale = Math.min(this.pane.width / (box.width * around), this.pane.height / (box.height * around), 8);
    this.scale = Math.min(MOST, Math.max(this.least, scale));
    this.fitted = false;
    this.x = box.x + box.width / 2;
    this.y = box.y + box.height / 2;
    this.#settle();
  }

  /** Keeps a point of the upload in view. */
  follow(point, margin = 30) {
    const at = this.toPane(point);
    const x = at.x < margin ? margin - at.x : at.x > this.pane.width - margin ? this.pane.width - margin - at.x : 0;
    const y = at.y < margin ? margin - at.y : at.y > this.pane.height - margin ? this.pane.height - margin - at.y : 0;
    if (x || y) this.pan(x, y);
  }

  toPicture(at) {
    return { x: this.x + (at.x - this.pane.width / 2) / this.scale, y: this.y + (at.y - this.pane.height / 2) / this.scale };
  }

  toPane(point) {
    return { x: (point.x - this.x) * this.scale + this.pane.width / 2, y: (point.y - this.y) * this.scale + this.pane.height / 2 };
  }

  get transform() {
    const corner = this.toPane({ x: 0, y: 0 });
    return `translate(${corner.x}px, ${corner.y}px) scale(${this.scale})`;
  }

  get viewBox() {
    const corner = this.toPicture({ x: 0, y: 0 });
    return `${corner.x} ${corner.y} ${this.pane.width / this.scale} ${this.pane.height / this.scale}`;
  }

  /** Nothing is lost sight of: the picture fills the pane where it is larger, and is centred where it is smaller. */
  #settle() {
    for (const [at, side] of [["x", "width"], ["y", "height"]]) {
      const half = this.pane[side] / this.scale / 2;
      this[at] = half * 2 >= this[side] ? this[side] / 2 : Math.min(this[side] - half, Math.max(half, this[at]));
    }
    this.changed?.();
  }
}
