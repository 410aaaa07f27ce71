// The overview's chart and live feed. The page is whole without them: the numbers are there as JSON, verdicts as a list.
const COLOURS = {
  manipulated: "--manipulated", inconclusive: "--inconclusive", no_evidence: "--no_evidence", rejected: "--rejected",
};
const OTHERS = ["#3b6fb6", "#b8861b", "#7a4fa3", "#2f8f83", "#c0547a", "#7c7c2a", "#4f7fa0", "#9a6b4f"];
const KEPT = 100; // verdicts that the feed shows
const WHOLE = [...Array(9).keys()].flatMap((power) => [1, 2, 5].map((step) => step * 10 ** power)); // verdicts are not halved
const dark = window.matchMedia("(prefers-color-scheme: dark)");

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const made = (tag, text, attributes = {}) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

// -- verdicts over time ----------------------------------------------------------------------------------------------

const chart = document.getElementById("chart");
const pick = document.getElementById("pick");
const plot = document.getElementById("plot");
let drawn = null;
let shown = null;

const asked = () => {
  const [hours, every] = pick.elements.span.value.split("/");
  const query = new URLSearchParams({ by: pick.elements.by.value, hours, every });
  if (chart.dataset.tenant) query.set("tenant", chart.dataset.tenant);
  return `/api/v1/overview/verdicts?${query}`;
};

const sum = (kind) => kind.verdicts.reduce((all, value) => all + value, 0);
const label = (start, every) => (every === "day" ? start.slice(0, 10) : `${start.slice(0, 10)} ${start.slice(11, 16)}`);

/** Times on the axis: clock times with the date below where a day begins, or dates alone. */
function times(_plot, splits, _axis, _space, step) {
  let day = null;
  return splits.map((seconds) => {
    const at = new Date(seconds * 1000).toISOString();
    if (step >= 86400) return at.slice(5, 10);
    const line = at.slice(0, 10) === day ? at.slice(11, 16) : `${at.slice(11, 16)}\n${at.slice(5, 10)}`;
    day = at.slice(0, 10);
    return line;
  });
}

/** A step for each hour or day, which lasts until the next one begins; under it what it holds, or all of them together. */
function draw(found) {
  drawn?.destroy();
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  const strokes = found.kinds.map((kind, place) => (COLOURS[kind.name] ? colour(COLOURS[kind.name]) : OTHERS[place % OTHERS.length]));
  const starts = found.starts.map((start) => Date.parse(start) / 1000);
  const last = starts.length - 1;
  const at = (place) => Math.min(place, last);
  const ends = [...starts, starts[last] + (found.every === "day" ? 86400 : 3600)];
  drawn = new uPlot({
    width: plot.clientWidth, height: 200, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    axes: [{ ...axis, values: times, size: 50 }, { ...axis, size: 56, incrs: WHOLE }], cursor: { drag: { x: false, y: false } },
    series: [
      { label: "UTC", value: (_plot, _value, _series, place) => (place == null ? "all" : label(found.starts[at(place)], found.every)) },
      ...found.kinds.map((kind, number) => ({
        label: kind.label, stroke: strokes[number], width: 2, dash: number % 2 ? [6, 3] : undefined, points: { show: false },
        paths: uPlot.paths.stepped({ align: 1 }),
        value: (_plot, _value, _series, place) => (place == null ? sum(kind) : kind.verdicts[at(place)]),
      })),
    ],
  }, [ends, ...found.kinds.map((kind) => [...kind.verdicts, kind.verdicts[last]])], plot);
}

function tabulate(found) {
  const table = document.getElementById("numbers");
  table.querySelectorAll("thead, tbody").forEach((part) => part.remove());
  const head = made("tr");
  head.append(made("th", found.every === "day" ? "day (UTC)" : "hour (UTC)", { scope: "col" }));
  found.kinds.forEach((kind) => head.append(made("th", kind.label, { scope: "col", class: "number" })));
  const body = made("tbody");
  found.starts.forEach((start, place) => {
    const values = found.kinds.map((kind) => kind.verdicts[place]);
    if (values.every((value) => value === 0)) return;
    const row = made("tr");
    row.append(made("th", label(start, found.every), { scope: "row" }));
    values.forEach((value) => row.append(made("td", String(value), { class: "number" })));
    body.prepend(row);
  });
  const top = made("thead");
  top.append(head);
  table.append(top, body);
  const words = found.kinds.filter((kind) => sum(kind) > 0).map((kind) => `${kind.label} ${sum(kind)}`).join(", ");
  document.getElementById("sum").textContent = `${found.total} verdicts${words ? `: ${words}` : ""}.`;
}

async function load() {
  try {
    const answer = await fetch(asked());
    if (!answer.ok) throw new Error(String(answer.status));
    shown = await answer.json();
    tabulate(shown);
    draw(shown);
  } catch {
    document.getElementById("sum").textContent = "The numbers cannot be read now.";
  }
}

pick.addEventListener("change", load);
dark.addEventListener("change", () => shown && draw(shown));
new ResizeObserver(() => drawn?.setSize({ width: plot.clientWidth, height: 200 })).observe(plot);
load();
setInterval(() => { if (!document.hidden) load(); }, 60_000);

// -- verdicts as they arrive -----------------------------------------------------------------------------------------

const live = document.getElementById("live");
const feed = document.getElementById("feed");
const state = document.getElementById("live-state");
const pause = document.getElementById("pause");
const seen = new Set();
let waiting = [];

function show(verdict) {
  document.getElementById("feed-empty").hidden = true;
  const item = made("li");
  item.append(made("a", verdict.filename || verdict.upload_id, { href: verdict.page }));
  item.append(made("span", verdict.decision.replace("_", " "), { class: `badge ${verdict.decision}` }));
  const score = verdict.score === null ? "" : ` · ${Math.round(verdict.score * 100)}%`;
  item.append(made("small", `${verdict.judged_at.slice(11, 19)} · ${verdict.tenant}${score} · ${verdict.reason}`));
  feed.prepend(item);
  while (feed.children.length > KEPT) feed.lastElementChild.remove();
}

function hear(event) {
  const verdict = JSON.parse(event.data);
  const name = JSON.stringify([verdict.tenant, verdict.upload_id, verdict.revision]);
  if (seen.has(name)) return; // after a lost connection some come once more
  seen.add(name);
  if (seen.size > 5000) seen.delete(seen.values().next().value);
  if (pause.getAttribute("aria-pressed") === "true") {
    waiting = [...waiting, verdict].slice(-KEPT);
    pause.textContent = `Go on (${waiting.length})`;
  } else show(verdict);
}

pause.addEventListener("click", () => {
  const paused = pause.getAttribute("aria-pressed") !== "true";
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Go on" : "Pause";
  if (!paused) { waiting.forEach(show); waiting = []; }
});

const query = new URLSearchParams({ after: live.dataset.after });
if (live.dataset.tenant) query.set("tenant", live.dataset.tenant);
const source = new EventSource(`/api/v1/verdicts/live?${query}`);
source.addEventListener("open", () => { state.textContent = "connected"; });
source.addEventListener("verdict", hear);
source.addEventListener("gap", () => { state.textContent = "some were left out: see the search"; });
source.addEventListener("error", () => {
  state.textContent = source.readyState === EventSource.CLOSED ? "not available: reload later" : "connecting again";
});
window.addEventListener("pagehide", () => source.close());
