// Blur, grey-scale, the mask's opacity and the theme: a person's own choice over the organisation's default.
// In and out: /api/v1/review/settings. Kept in localStorage, too, so that a page is right before it has asked.

const KEY = "pentimento-sight";
const ADDRESS = "/api/v1/review/settings";
const FIRST = { blur: true, greyscale: false, opacity: 0.7, theme: "system" };
const listeners = new Set();

function kept() {
  try { return { ...FIRST, ...JSON.parse(localStorage.getItem(KEY) || "{}") }; } catch { return { ...FIRST }; }
}

let current = kept();
let choices = 0; // made on this page: an answer from before one of them is stale

function apply() {
  const root = document.documentElement;
  if (current.blur) delete root.dataset.blur; else root.dataset.blur = "off";
  if (current.greyscale) root.dataset.grey = "on"; else delete root.dataset.grey;
  if (current.theme === "light" || current.theme === "dark") root.dataset.theme = current.theme;
  else delete root.dataset.theme;
  try { localStorage.setItem(KEY, JSON.stringify(current)); } catch { /* private window: kept for this page only */ }
  for (const listener of listeners) listener(current);
}

export const sight = {
  get: () => current,
  /** Calls back now and whenever something changes. */
  follow(listener) { listeners.add(listener); listener(current); },
  /** Changes some of it, here at once and for the person's next page. */
  async choose(change) {
    choices += 1;
    current = { ...current, ...change };
    apply();
    try {
      await fetch(ADDRESS, { method: "PUT", headers: { "content-type": "application/json" }, body: JSON.stringify(change) });
    } catch { /* the choice still holds on this machine */ }
  },
};

async function ask() {
  const before = choices;
  try {
    const answer = await fetch(ADDRESS, { headers: { accept: "application/json" } });
    if (!answer.ok) return;
    const chosen = await answer.json();
    if (choices !== before) return;
    current = { ...current, ...chosen };
    apply();
  } catch { /* what is kept holds */ }
}

apply();
ask();
