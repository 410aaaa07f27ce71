// Figures for leads: who decides how much and how well, how far people agree, what waits.
import { age, api, make, percent } from "/static/api.js";

const at = (id) => document.getElementById(id);

function table(host, head, rows, empty) {
  if (!rows.length) {
    host.replaceChildren(make("tbody", {}, make("tr", {}, make("td", { className: "muted" }, empty))));
    return;
  }
  const cells = (row) => row.map((value, number) => (number ? make("td", { className: "number" }, value) : make("th", { scope: "row" }, value)));
  host.replaceChildren(
    make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...cells(row)))),
  );
}

const seconds = (value) => (value === null ? "–" : `${value.toFixed(0)} s`);
const kappa = (value) => (value === null ? "–" : value.toFixed(2));

async function load() {
  const wanted = new URLSearchParams();
  for (const [name, value] of new FormData(at("filters"))) if (value) wanted.set(name, value);
  let found;
  try {
    found = await api(`/review/stats?${wanted}`);
  } catch (problem) {
    at("summary").textContent = problem.message;
    return;
  }
  const oldest = found.oldest_at ? `, the oldest for ${age(found.oldest_at)}` : "";
  at("summary").textContent = `${found.open} open, ${found.escalated} of them escalated${oldest}. Since ${found.since.slice(0, 10)}.`;
  table(at("moderators"), ["Moderator", "decided", "undone", "skipped", "escalated", "minutes", "median", "honeypots", "right"],
    found.moderators.map((each) => [each.name, String(each.decided), String(each.undone), String(each.skipped), String(each.escalated),
      each.minutes.toFixed(0), seconds(each.median_s), `${each.honeypots_right} of ${each.honeypots}`, percent(each.honeypot_accuracy)]),
    "Nobody has decided anything in this time.");
  table(at("agreement"), ["Between", "cases", "agree", "kappa"], [
    ...found.agreement.map((each) => [`${each.first} and ${each.second}`, String(each.cases), percent(each.percent), kappa(each.kappa)]),
    ...found.agreement_by_kind.map((each) => [`all, ${each.kind.replaceAll("_", " ")}`, String(each.cases), percent(each.percent), kappa(each.kappa)]),
  ], "No case has had a second review in this time.");
  table(at("queues"), ["Queue", "open", "oldest"],
    found.queues.map((each) => [`${each.tenant}, ${each.kind.replaceAll("_", " ")}`, String(each.open), each.oldest_at ? age(each.oldest_at) : "–"]),
    "Nothing waits.");
}

at("filters").addEventListener("change", load);
at("filters").addEventListener("submit", (event) => event.preventDefault());
load();
