// The queue: how many wait, for how long, and which; and the button that brings the first one.
import { age, api, make, percent, showExposure } from "/static/api.js";
import { Keys, say } from "/static/keys.js";
import { sight } from "/static/sight.js";

const at = (id) => document.getElementById(id);
const KINDS = { inconclusive: "inconclusive", paths_disagree: "paths disagree", spot_check: "spot check" };
const PAGE = 25;
const AGAIN_MS = 20_000;
let cursor = null;
let newest = 0;

function query() {
  const form = new FormData(at("filters"));
  const wanted = new URLSearchParams();
  for (const [name, value] of form) if (value) wanted.set(name, value);
  return wanted;
}

/** A case's address, which remembers what else is wanted. */
function address(one) {
  const wanted = query().toString();
  return `/review/case/${one.id}${wanted ? `?${wanted}` : ""}`;
}

function row(one) {
  const name = one.filename ?? one.upload_id;
  const picture = `/pictures/upload/${encodeURIComponent(one.tenant)}/${encodeURIComponent(one.upload_id)}?size=thumb&r=${one.revision}`;
  const facts = [KINDS[one.kind] ?? one.kind, one.tenant, `waits ${age(one.opened_at)}`];
  if (one.lock) facts.push(one.lock.mine ? "locked by you" : one.lock.expired ? `lock of ${one.lock.by} expired` : `with ${one.lock.by}`);
  const link = make("a", { href: address(one) },
    make("span", { className: "veil" }, make("img", { className: "sensitive", src: picture, alt: "", width: 96, height: 72, loading: "lazy" })),
    make("span", { className: "what" }, make("b", {}, name), make("span", { className: "muted" }, facts.join(" · "))),
    one.members > 1 ? make("span", { className: "many" }, `${one.members} uploads`) : null,
    one.escalated ? make("span", { className: "many hot" }, "escalated") : null,
    make("span", { className: "number" }, percent(one.score)));
  return make("li", {}, link);
}

async function load({ more = false } = {}) {
  const mine = ++newest;
  const wanted = query();
  wanted.set("limit", PAGE);
  if (more && cursor) wanted.set("cursor", cursor);
  let found;
  try {
    found = await api(`/review/queue?${wanted}`);
  } catch (problem) {
    at("waiting").textContent = problem.message;
    return;
  }
  if (mine !== newest) return; // the filters changed meanwhile
  cursor = found.next_cursor;
  const own = new Set(found.mine.map((one) => one.id)); // they stand above already
  const rows = found.cases.filter((one) => !own.has(one.id)).map(row);
  if (more) at("queue").append(...rows); else at("queue").replaceChildren(...rows);
  at("mine").hidden = found.mine.length === 0;
  at("mine").querySelector("ul").replaceChildren(...found.mine.map(row));
  at("more").hidden = !cursor;
  const words = found.open ? `${found.open} open, the oldest for ${age(found.oldest_at)}` : "Nothing waits. Well done.";
  if (at("waiting").textContent !== words) at("waiting").textContent = words;
  at("start").disabled = (!found.open && !found.mine.length) || found.exposure.used_up;
  showExposure(at("exposure"), found.exposure);
}

async function start() {
  if (at("start").disabled) return;
  const wanted = Object.fromEntries(query());
  if (wanted.escalated) wanted.escalated = true;
  try {
    const { case: one, why } = await api("/review/next", { method: "POST", body: wanted });
    if (one) location.assign(address(one));
    else at("waiting").textContent = why === "budget_used_up" ? "You have seen enough for today." : "Nothing waits any more.";
  } catch (problem) {
    at("waiting").textContent = problem.message;
  }
}

const keys = new Keys();
keys.add({ key: "Enter", label: "Start with the most urgent case", section: "Queue", run: start });
keys.add({ key: "b", label: "Blur", section: "Pictures", run: () => sight.choose({ blur: !sight.get().blur }) });
keys.add({ key: "g", label: "Grey-scale", section: "Pictures", run: () => sight.choose({ greyscale: !sight.get().greyscale }) });
at("start").addEventListener("click", start);
at("more").addEventListener("click", () => load({ more: true }));
at("filters").addEventListener("submit", (event) => event.preventDefault());
at("filters").addEventListener("change", (event) => { if (event.target.name) load().then(() => say(at("waiting").textContent)); });
for (const [name, value] of new URLSearchParams(location.search)) {
  const field = at("filters").elements.namedItem(name);
  if (field?.type === "checkbox") field.checked = value === "true"; else if (field) field.value = value;
}
at("sight-blur").addEventListener("click", () => sight.choose({ blur: !sight.get().blur }));
at("sight-grey").addEventListener("click", () => sight.choose({ greyscale: !sight.get().greyscale }));
at("theme").addEventListener("change", (event) => sight.choose({ theme: event.target.value }));
document.querySelector("[data-sheet]").addEventListener("click", () => keys.sheet());
sight.follow((chosen) => {
  at("sight-blur").ariaPressed = String(chosen.blur);
  at("sight-grey").ariaPressed = String(chosen.greyscale);
  at("theme").value = chosen.theme;
});
load();
setInterval(() => { if (document.visibilityState === "visible" && !at("queue").contains(document.activeElement) && at("queue").children.length <= PAGE) load(); }, AGAIN_MS);
