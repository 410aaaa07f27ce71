// The uploads of a case beside each other, and which of them a decision is for.
// In: a case. Out: what `members` of the decision is to be: "shown", "all", or a list of upload ids.

import { api, make, percent } from "/static/api.js";

const PAGE = 60;
const at = (id) => document.getElementById(id);

export class Cluster {
  constructor(changed) {
    this.changed = changed;
    this.dialog = at("cluster");
    at("cluster-done").addEventListener("click", () => this.dialog.close());
    at("cluster-more").addEventListener("click", () => this.#page());
    this.dialog.addEventListener("change", () => this.#count());
    this.dialog.addEventListener("click", (event) => { const how = event.target.closest("[data-choose]")?.dataset.choose; if (how) this.choose(how); });
    this.dialog.addEventListener("keydown", (event) => this.#key(event));
  }

  take(one) {
    this.one = one;
    this.members = "shown";
    this.whole = false;
    this.loaded = null;
    at("tiles").replaceChildren();
    this.changed();
  }

  get total() { return this.one.members; }
  get count() { return this.members === "shown" ? 1 : this.members === "all" ? this.total : this.members.length; }
  get tooMany() { return this.one.bulk_limit !== null && this.count > this.one.bulk_limit; }

  async open() {
    this.dialog.showModal();
    if (!this.loaded) { this.loaded = { cursor: null, shown: 0 }; await this.#page(); }
    at("tiles").querySelector("input")?.focus();
  }

  choose(how) {
    for (const box of this.#boxes()) box.checked = how === "all" || box.value === this.one.upload_id;
    this.whole = how === "all";
    this.#count();
  }

  #boxes() { return [...at("tiles").querySelectorAll("input")]; }

  async #page() {
    const wanted = new URLSearchParams({ limit: PAGE });
    if (this.loaded.cursor) wanted.set("cursor", this.loaded.cursor);
    const found = await api(`/review/cases/${this.one.id}/members?${wanted}`);
    this.loaded.cursor = found.next_cursor;
    for (const member of found.members.filter((each) => each.state === "open")) at("tiles").append(this.#tile(member));
    at("cluster-more").hidden = !found.next_cursor;
    const limit = this.one.bulk_limit === null ? "" : ` You may decide ${this.one.bulk_limit} at once; leads may decide more.`;
    at("cluster-about").textContent = `${found.total} uploads share an original or show the same picture.${limit}`;
    this.#count();
  }

  #tile(member) {
    const chosen = this.whole || member.upload_id === this.one.upload_id || (Array.isArray(this.members) && this.members.includes(member.upload_id));
    const box = make("input", { type: "checkbox", value: member.upload_id, checked: chosen });
    const picture = `/pictures/upload/${encodeURIComponent(this.one.tenant)}/${encodeURIComponent(member.upload_id)}?size=thumb&r=${member.revision}`;
    const name = member.filename ?? member.upload_id;
    return make("li", {}, make("label", {}, make("span", { className: "veil" }, make("img", { className: "sensitive", src: picture, alt: "", width: 150, height: 112, loading: "lazy" })),
      make("span", { className: "name" }, box, make("span", {}, name), make("b", {}, percent(member.score)))));
  }

  #count() {
    const boxes = this.#boxes();
    const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
    this.whole = this.whole && chosen.length === boxes.length;
    const everything = chosen.length === boxes.length && !this.loaded?.cursor;
    this.members = this.whole || everything ? "all" : chosen;
    if (!chosen.length || (chosen.length === 1 && chosen[0] === this.one.upload_id)) this.members = "shown";
    at("cluster-chosen").textContent = `${this.count} of ${this.total} chosen${this.tooMany ? ": more than you may decide at once" : ""}`;
    this.changed();
  }

  #key(event) {
    const key = event.key.toLowerCase();
    if (key === "a" && !event.ctrlKey) this.choose("all");
    else if (key === "o") this.choose("shown");
    else if (event.key === "Enter" && event.target.type === "checkbox") this.dialog.close();
    else if (event.key.startsWith("Arrow")) this.#step(event.key);
    else return;
    event.preventDefault();
  }

  #step(key) {
    const boxes = this.#boxes();
    const now = boxes.indexOf(document.activeElement);
    const columns = getComputedStyle(at("tiles")).gridTemplateColumns.split(" ").length;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[key];
    boxes[Math.min(boxes.length - 1, Math.max(0, now + by))]?.focus();
  }
}
