// The form of a decision: which, why, and in whose words. Reasons and what is mandatory come from the policy.

import { make } from "/static/api.js";
import { say } from "/static/keys.js";

export class DecisionForm {
  constructor(root, rules, changed) {
    Object.assign(this, { root, rules, changed });
    this.comment = root.querySelector("#comment");
    this.list = root.querySelector("#code-list");
    for (const reason of rules.reasons) {
      const box = make("input", { type: "checkbox", value: reason.code });
      box.dataset.decisions = reason.decisions.join(" ");
      this.list.append(make("label", {}, box, make("kbd", {}, reason.key), make("span", {}, reason.label)));
    }
    root.addEventListener("change", () => this.#settle());
    this.comment.addEventListener("input", () => { this.comment.rows = Math.min(4, this.comment.value.split("\n").length); });
    this.#settle();
  }

  get decision() { return this.root.querySelector("[name=decision]:checked")?.value ?? null; }
  get codes() { return [...this.list.querySelectorAll("input:checked")].map((box) => box.value); }
  get needsReason() { return this.rules.reason_required.includes(this.decision); }

  /** Why it cannot be sent, or null. */
  get missing() {
    if (!this.decision) return "Choose a decision.";
    if (this.needsReason && !this.codes.length) return "Choose a reason: this decision needs one.";
    return null;
  }

  get value() {
    const comment = this.comment.value.trim();
    return { decision: this.decision, reason_codes: this.codes, ...(comment ? { comment } : {}) };
  }

  set value(given) {
    for (const radio of this.root.querySelectorAll("[name=decision]")) radio.checked = radio.value === given.decision;
    for (const box of this.list.querySelectorAll("input")) box.checked = given.reason_codes?.includes(box.value) ?? false;
    this.comment.value = given.comment ?? "";
    this.#settle();
  }

  reset() { this.value = {}; }

  set enabled(enabled) { for (const part of this.root.elements) if (part.id !== "undo") part.disabled = !enabled; }

  choose(decision) {
    const radio = this.root.querySelector(`[name=decision][value=${decision}]`);
    if (radio.disabled) return;
    radio.checked = true;
    this.#settle();
    say(radio.nextElementSibling.firstChild.textContent.trim());
  }

  /** The reason with this key, among those of the decision: each decision has its own. */
  toggle(key) {
    const reason = this.rules.reasons.find((each) => each.key === key && each.decisions.includes(this.decision));
    if (!reason) { say(this.decision ? "No such reason" : "Choose a decision first"); return; }
    const box = this.list.querySelector(`input[value="${CSS.escape(reason.code)}"]`);
    box.checked = !box.checked;
    this.#settle();
    say(`${reason.label} ${box.checked ? "chosen" : "not chosen"}`);
  }

  #settle() {
    const { decision } = this;
    for (const box of this.list.querySelectorAll("input")) {
      const fits = box.dataset.decisions.split(" ").includes(decision);
      if (!fits) box.checked = false;
      box.closest("label").hidden = !fits;
    }
    this.root.querySelector("#needed").textContent = !decision ? "follow the decision" : this.needsReason ? "one is needed" : "";
    this.changed?.();
  }
}
