// The mask's correction on the review page: its tools, its keys, and whether there is one.

import { say } from "/static/keys.js";
import { MaskEditor } from "/static/mask-editor.js";

const at = (id) => document.getElementById(id);
const SCOPE = "paint";

export class Painting {
  constructor(evidence) {
    this.evidence = evidence;
    this.editor = null;
    const bar = at("paint");
    bar.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button?.dataset.tool) this.editor.choose(button.dataset.tool);
      else if (button?.dataset.paint) this[button.dataset.paint]();
    });
    at("brush-size").addEventListener("input", (event) => this.editor.setSize(Number(event.target.value)));
  }

  get open() { return this.editor?.open ?? false; }
  get changed() { return this.editor?.changed ?? false; }
  png() { return this.editor.png(); }

  toggle() {
    if (this.open) { this.done(); return; }
    const evidence = this.evidence();
    if (!evidence) return;
    if (!this.editor) {
      this.editor = new MaskEditor(evidence);
      this.editor.toolChanged = () => this.#follow();
      this.editor.touched = () => this.#follow();
    }
    evidence.stage.append(at("paint"));
    this.editor.open = true;
    at("paint").hidden = false;
    this.registry.enter(SCOPE);
    this.#follow();
    evidence.panes.focus();
    say("Correcting the mask. Arrow keys move, space paints, question mark lists the keys.");
  }

  done() {
    this.editor.open = false;
    at("paint").hidden = true;
    this.registry.leave(SCOPE);
    this.#follow();
    at("correct").focus();
    say(this.changed ? "Mask corrected. It is sent with the decision." : "Mask unchanged");
  }

  discard() {
    this.forget();
    at("correct").focus();
    say("Correction discarded");
  }

  /** Another case came: nothing of this one is left. */
  forget() {
    at("paint").hidden = true;
    at("workbench").after(at("paint"));
    this.registry?.leave(SCOPE);
    this.editor?.remove();
    this.editor = null;
    this.#follow();
  }

  undo() { this.editor.undo(); }
  redo() { this.editor.redo(); }
  clear() { this.editor.clear(); }
  machine() { this.editor.machines(); }

  #follow() {
    at("correct").ariaPressed = String(this.open);
    at("correct").firstChild.textContent = this.changed ? "Mask corrected " : "Correct mask ";
    if (!this.editor) return;
    for (const button of at("paint").querySelectorAll("[data-tool]")) button.ariaPressed = String(button.dataset.tool === this.editor.tool);
    at("brush-size").value = String(this.editor.size);
    at("paint").querySelector("[data-paint=undo]").disabled = this.editor.place === 0;
    at("paint").querySelector("[data-paint=redo]").disabled = this.editor.place === this.editor.steps.length;
  }

  keys(registry) {
    this.registry = registry;
    const key = (name, label, run, more = {}) => registry.add({ key: name, label, run, scope: SCOPE, section: "While correcting the mask", ...more });
    key("b", "Brush", () => this.editor.choose("brush"));
    key("e", "Eraser", () => this.editor.choose("eraser"));
    key("y", "Polygon", () => this.editor.choose("polygon"));
    key("[", "Smaller brush", () => this.editor.resize(0.8), { repeats: true });
    key("]", "Larger brush", () => this.editor.resize(1.25), { repeats: true });
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    for (const fast of [false, true]) {
      const names = Object.keys(arrows).map((name) => (fast ? `Shift+${name}` : name));
      key(names, fast ? "Move the cross faster" : "Move the cross", (event) => this.editor.move(...arrows[event.key], fast), { repeats: true });
    }
    key(" ", "Pen down or up; a corner of the polygon", () => this.editor.pen());
    key("Enter", "Close the polygon", () => this.editor.closePolygon());
    key("Ctrl+z", "Undo a stroke", () => this.editor.undo(), { repeats: true });
    key(["Ctrl+y", "Ctrl+Shift+z"], "Redo a stroke", () => this.editor.redo(), { repeats: true });
    key("m", "The machine’s mask again", () => this.machine());
    key("Delete", "Clear", () => this.clear());
    key("d", "Discard the correction", () => this.discard());
    key(["p", "Escape"], "Done", () => this.done());
  }
}
