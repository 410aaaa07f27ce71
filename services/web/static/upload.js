// Sends files, one after another, and follows each until its verdict is there. Nothing here needs a mouse.
import { droppable } from "./drop.js";

const STEPS = { unknown: "waits to be looked at", taken_in: "looked up, with the models", judged: "judged", shown: "done" };
const PLACE = { unknown: 2, taken_in: 3, judged: 4, shown: 5 };
const FIRST_MS = 400;
const LONGEST_MS = 3000;
const PATIENCE_MS = 300_000;

const form = document.getElementById("upload");
const list = document.getElementById("sent");
const said = document.getElementById("said");
const tenant = document.getElementById("tenant");
const most = Number(form.dataset.max);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// -- a line for each file --------------------------------------------------------------------------------------------

function line(file) {
  const item = document.createElement("li");
  const picture = document.createElement("img");
  picture.alt = "";
  picture.src = URL.createObjectURL(file);
  picture.addEventListener("error", () => { picture.hidden = true; });
  picture.addEventListener("load", () => URL.revokeObjectURL(picture.src));
  const name = document.createElement("b");
  name.textContent = file.name;
  const badge = document.createElement("span");
  const steps = document.createElement("p");
  steps.className = "steps";
  const bar = document.createElement("progress");
  bar.max = 5;
  bar.value = 0;
  bar.setAttribute("aria-label", `Progress of ${file.name}`);
  const text = document.createElement("span");
  steps.append(bar, text);
  item.append(picture, name, badge, steps);
  list.prepend(item);
  return { file, item, badge, bar, text };
}

function at(row, place, words) {
  row.bar.value = place;
  row.text.textContent = words;
}

function failed(row, words) {
  row.bar.hidden = true;
  row.text.className = "wrong";
  row.text.textContent = words;
  said.textContent = `${row.file.name}: ${words}`;
}

function decided(row, verdict, page) {
  row.bar.hidden = true;
  row.badge.className = `badge ${verdict.decision}`;
  row.badge.textContent = verdict.decision.replace("_", " ");
  row.text.textContent = `${verdict.reasons[0].text} `;
  const link = document.createElement("a");
  link.href = page;
  link.textContent = `Verdict for ${row.file.name}`;
  row.text.append(link);
  said.textContent = `${row.file.name}: ${verdict.decision.replace("_", " ")}`;
}

// -- the way of a file -----------------------------------------------------------------------------------------------

async function post(address, file) {
  const body = new FormData();
  body.set("tenant", tenant.value.trim());
  body.set("image", file, file.name);
  const answer = await fetch(address, { method: "POST", body, headers: { accept: "application/json" } });
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(told.detail || `The server answered ${answer.status}.`);
  return told;
}

async function until(ask, words) {
  const end = Date.now() + PATIENCE_MS;
  for (let wait = FIRST_MS; Date.now() < end; wait = Math.min(LONGEST_MS, wait * 1.4)) {
    const answer = await fetch(ask.address).catch(() => null);
    if (answer?.ok) {
      const told = await answer.json();
      if (ask.done(told)) return told;
    }
    await pause(wait);
  }
  throw new Error(words);
}

async function follow(row, told) {
  const address = told.verdict.replace("/api/v1/verdicts/", "/api/v1/uploads/");
  const done = (stage) => { at(row, PLACE[stage.stage], STEPS[stage.stage]); return stage.stage === "shown"; };
  const stage = await until({ address, done }, "No verdict within five minutes. It may still come; dead letters say if it failed.");
  const history = await (await fetch(stage.verdict)).json();
  decided(row, history.verdict, stage.page);
}

const guarded = async (row, work) => {
  try { await work(); } catch (error) { failed(row, error.message); }
};

const fits = (row) => {
  if (row.file.size === 0) failed(row, "The file is empty.");
  else if (row.file.size > most) failed(row, `The file has ${row.file.size} bytes, at most ${most} are allowed.`);
  else return true;
  return false;
};

async function send(files) {
  const rows = [...files].reverse().map(line).reverse(); // the first file's line stands first
  for (const row of rows) {
    if (!fits(row)) continue;
    await guarded(row, async () => {
      at(row, 1, "is sent");
      const told = await post("/api/v1/uploads", row.file);
      at(row, 2, STEPS.unknown);
      guarded(row, () => follow(row, told)); // beside the next file
    });
  }
}

async function sendPair(original, upload) {
  const row = line(upload);
  const sent = line(original);
  if (!fits(row) || !fits(sent)) return;
  await guarded(sent, async () => {
    at(sent, 1, "is registered as an original");
    const told = await post("/api/v1/originals", original);
    await until({ address: told.original, done: (state) => state.registered }, "The original was not registered within five minutes.");
    sent.bar.hidden = true;
    sent.text.textContent = "registered: uploads are compared with it from now on";
    await guarded(row, async () => {
      at(row, 1, "is sent");
      await follow(row, await post("/api/v1/uploads", upload));
    });
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const files = document.getElementById("files");
  send(files.files);
  files.value = "";
});
droppable(form, send);

const pair = document.getElementById("pair");
pair?.addEventListener("submit", (event) => {
  event.preventDefault();
  const [original, upload] = ["original", "counterpart"].map((name) => document.getElementById(name).files[0]);
  sendPair(original, upload);
  pair.reset();
});
