// What was just decided, with the time in which it can be taken back.

const at = (id) => document.getElementById(id);

export class Toast {
  constructor(undo) {
    this.kept = null;
    for (const id of ["toast-undo", "undo"]) at(id).addEventListener("click", () => undo(this.kept));
  }

  /** `form` is what was in the form, to put it back. */
  offer(decision, text, form) {
    this.kept = { decision, form };
    at("toast-text").textContent = text;
    at("toast").hidden = false;
    at("undo").disabled = false;
    clearInterval(this.tick);
    this.tick = setInterval(() => this.#count(), 250);
    this.#count();
  }

  done() {
    clearInterval(this.tick);
    const held = at("toast").contains(document.activeElement) || document.activeElement === at("undo");
    this.kept = null;
    at("toast").hidden = true;
    at("undo").disabled = true;
    if (held) at("title").focus({ preventScroll: true });
  }

  #count() {
    const left = Math.ceil((Date.parse(this.kept.decision.undo_until) - Date.now()) / 1000);
    if (left <= 0) this.done(); else at("toast-count").textContent = `${left} s`;
  }
}
