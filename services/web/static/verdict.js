// The page of one verdict: its evidence and its keys.
import { Evidence } from "/static/evidence.js";
import { evidenceKeys } from "/static/evidence-keys.js";
import { Keys } from "/static/keys.js";

const root = document.querySelector("[data-evidence][data-width]");
const evidence = root ? new Evidence(root) : null;
const keys = new Keys();
evidenceKeys(keys, () => evidence);
const sheet = document.querySelector("[data-sheet]");
sheet.hidden = false;
sheet.addEventListener("click", () => keys.sheet());
