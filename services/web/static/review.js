// One case after the other: evidence on the left, the decision on the right, the next one by itself.
// In: /api/v1/review and the fragments of /evidence/view. The address always names the case that is shown.

import { age, api, onceKey, showExposure } from "/static/api.js";
import { Cluster } from "/static/cluster.js";
import { DecisionForm } from "/static/decision-form.js";
import { Evidence } from "/static/evidence.js";
import { evidenceKeys } from "/static/evidence-keys.js";
import { Keys, say } from "/static/keys.js";
import { Painting } from "/static/painting.js";
import { Toast } from "/static/toast.js";

const at = (id) => document.getElementById(id);
const bench = at("workbench");
const WORDS = { manipulated: "Manipulated", no_evidence: "No evidence", inconclusive: "Can’t tell" };
const isLead = bench.dataset.lead === "yes";
let one = null; // the case on the page
let evidence = null;
let beat = null;
let busy = false;
const wanted = new URLSearchParams(location.search); // which cases somebody works on: tenant, kind, escalated
let sent = { body: "", key: "" }; // the same body again has the same key: trying again is harmless

const rules = await api("/review/reasons");
const painting = new Painting(() => evidence);
const cluster = new Cluster(() => settle());
const form = new DecisionForm(at("decide"), rules, () => settle());
const toast = new Toast((decision) => undo(decision));

const mine = () => Boolean(one?.lock?.mine && !one.lock.expired && one.state === "open");

// -- what is shown ------------------------------------------------------------------------------------------------------------

/** Puts a case on the page at once; its evidence comes as soon as it can. */
function show(next, { push = true } = {}) {
  const address = `/review/case/${next.id}`;
  if (push && location.pathname !== address) history.pushState(null, "", address + location.search);
  one = next;
  const name = one.filename ?? one.upload_id;
  at("title").textContent = name;
  document.title = `${name} · Review · Pentimento`;
  clear();
  cluster.take(one);
  form.reset();
  guard();
  scrollTo(0, 0);
  at("title").focus({ preventScroll: true });
  fill(next, name).catch(() => refuse("The evidence cannot be shown: the server does not answer. Load the page again."));
}

/** Nothing of the case before is left, so that nobody decides about one picture while another is seen. */
function clear() {
  painting.forget();
  evidence?.close();
  evidence = null;
  at("host").ariaBusy = "true";
  at("host").replaceChildren();
  at("findings").replaceChildren();
}

async function fill(next, name) {
  const fragment = `/evidence/view/${encodeURIComponent(next.tenant)}/${encodeURIComponent(next.upload_id)}?r=${next.revision}&blind=true`;
  const answer = await fetch(fragment);
  const markup = await answer.text();
  if (one !== next) return; // another case came meanwhile
  at("host").ariaBusy = "false";
  if (!answer.ok) { refuse("The evidence cannot be shown: the picture may have been erased. Skip the case or try again."); return; }
  at("host").innerHTML = markup;
  window.htmx?.process(at("host"));
  const root = at("host").querySelector("[data-evidence]");
  at("findings").replaceChildren(...notes(), root.querySelector("[data-findings]"));
  at("findings").scrollTop = 0;
  // The regions' buttons stand beside the pictures, outside of the evidence.
  if (root.dataset.width) evidence = new Evidence(root, at("findings"));
  say(`${name}. ${at("findings").querySelector(".line")?.textContent.trim().replace(/\s+/g, " ") ?? ""}`);
}

function notes() {
  return (one.notes ?? []).map((note) => {
    const said = document.createElement("p");
    said.className = "said";
    said.textContent = `${note.by}, ${age(note.at)} ago: ${note.text}`;
    return said;
  });
}

/** Who has the case, and what can be done about it. */
function guard() {
  clearInterval(beat);
  const { lock } = one;
  const until = (time) => new Date(time).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  form.enabled = mine();
  at("lock").textContent = mine() ? `Yours until ${until(lock.until)}` : "";
  at("banner").hidden = mine();
  if (mine()) {
    beat = setInterval(heartbeat, rules.heartbeat_s * 1000);
  } else if (one.state !== "open") {
    ban(`This case is ${one.state}${one.settled_because ? `: ${one.settled_because}` : "."}`, isLead ? "Reopen" : null);
  } else if (lock && !lock.mine && !lock.expired) {
    ban(`${lock.by} has this case until ${until(lock.until)}.`, isLead ? "Take over" : null);
  } else {
    ban(lock && !lock.mine ? `The lock of ${lock.by} has expired.` : "Nobody has this case.", lock && !lock.mine ? "Take over" : "Take this case");
  }
  settle();
}

function ban(text, take) {
  at("banner").hidden = false;
  at("banner-text").textContent = text;
  at("take").hidden = take === null;
  if (take) at("take").firstChild.textContent = `${take} `;
}

/** The buttons follow what has been chosen. */
function settle() {
  if (!one) return; // the form is being made
  at("submit").disabled = !mine() || busy || form.missing !== null || cluster.tooMany;
  at("fault").hidden = true;
  at("variants").hidden = one.members < 2;
  at("variants").firstChild.textContent = cluster.count === 1 ? `${one.members} uploads ` : `Decides ${cluster.count} of ${one.members} `;
}

function refuse(text) {
  at("fault").textContent = text;
  at("fault").hidden = false;
}

async function heartbeat() {
  try {
    one.lock.until = (await api(`/review/cases/${one.id}/heartbeat`, { method: "POST" })).until;
    at("lock").textContent = `Yours until ${new Date(one.lock.until).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })}`;
  } catch (problem) {
    if (problem.status === 0) return; // the next one may come through
    show(await api(`/review/cases/${one.id}`));
    say("Somebody else has this case now.");
  }
}

/** Does something with the case, once at a time, and says what went wrong. */
async function act(what) {
  if (busy) return;
  busy = true;
  let wrong = null;
  settle();
  try {
    await what();
  } catch (problem) {
    wrong = problem.message;
    if (["not_yours", "case_closed", "case_locked"].includes(problem.code)) {
      one = await api(`/review/cases/${one.id}`);
      guard();
    }
  } finally {
    busy = false;
    const fault = wrong ?? (at("fault").hidden ? null : at("fault").textContent);
    settle();
    if (fault) refuse(fault);
    if (document.activeElement === document.body) at("title").focus({ preventScroll: true });
  }
}

// -- what is done ----------------------------------------------------------------------------------------------------------------

async function following() {
  const body = Object.fromEntries(wanted);
  if (body.escalated) body.escalated = true;
  const { case: next, why, exposure } = await api("/review/next", { method: "POST", body });
  showExposure(at("exposure"), exposure);
  if (next) { show(next); return; }
  clearInterval(beat);
  clear();
  at("host").ariaBusy = "false";
  one = { ...one, lock: null, state: "decided", members: 0 };
  form.enabled = false;
  at("title").textContent = why === "budget_used_up" ? "You have seen enough for today" : "Nothing waits any more";
  at("lock").textContent = "";
  ban(why === "budget_used_up" ? "Rest your eyes. The queue goes on tomorrow, or with others." : "The queue is empty. New cases come by themselves: look again later.", null);
  settle();
  at("title").focus();
  say(at("title").textContent);
}

const submit = () => act(async () => {
  if (form.missing || cluster.tooMany) throw new Error(form.missing ?? "More uploads than you may decide at once.");
  const body = { ...form.value, members: cluster.members };
  if (painting.changed && body.decision === "manipulated") {
    body.mask = (await api(`/review/cases/${one.id}/mask`, { method: "POST", body: await painting.png() })).mask;
  }
  const said = JSON.stringify([one.id, body]);
  if (sent.body !== said) sent = { body: said, key: onceKey() };
  const { decision } = await api(`/review/cases/${one.id}/decide`, { method: "POST", body, headers: { "idempotency-key": sent.key } });
  sent = { body: "", key: "" };
  const many = decision.uploads > 1 ? `, ${decision.uploads} uploads` : "";
  toast.offer(decision, `${WORDS[decision.decision]}: ${one.filename ?? one.upload_id}${many}`, form.value);
  await following();
});

const undo = (kept = toast.kept) => act(async () => {
  if (!kept) return;
  const back = await api(`/review/decisions/${kept.decision.id}/undo`, { method: "POST" });
  toast.done();
  show(back);
  form.value = kept.form;
  say("Undone. The case is yours again.");
});

const skip = () => act(async () => {
  await api(`/review/cases/${one.id}/skip`, { method: "POST" });
  await following();
});

const take = () => act(async () => {
  const again = one.state !== "open";
  if (again) { ask("Reopen the case", "Reopen", (note) => api(`/review/cases/${one.id}/reopen`, { method: "POST", body: { note } }).then(show)); return; }
  show(await api(`/review/cases/${one.id}/${one.lock && !one.lock.mine ? "take-over" : "claim"}`, { method: "POST" }));
});

const escalate = () => ask("Escalate to a lead", "Escalate", async (note) => {
  await api(`/review/cases/${one.id}/escalate`, { method: "POST", body: { note } });
  await following();
});

/** Asks for a note in a dialog, then does it. */
function ask(title, verb, then) {
  const dialog = at("ask");
  at("ask-title").textContent = title;
  dialog.querySelector("button[value]").firstChild.textContent = `${verb} `;
  at("ask-note").value = "";
  dialog.returnValue = "";
  dialog.showModal();
  dialog.onclose = () => { if (dialog.returnValue === "yes") act(() => then(at("ask-note").value.trim())); };
}

// -- hands -----------------------------------------------------------------------------------------------------------------------

const keys = new Keys();
const when = mine;
const key = (name, label, run, more = {}) => keys.add({ key: name, label, run, when, section: "Decide", ...more });
key("m", "Manipulated", () => form.choose("manipulated"));
key("n", "No evidence", () => form.choose("no_evidence"));
key("c", "Can’t tell", () => form.choose("inconclusive"));
for (const name of new Set(rules.reasons.map((reason) => reason.key))) {
  const labels = rules.reasons.filter((reason) => reason.key === name).map((reason) => reason.label);
  key(name, labels.join(" / "), () => form.toggle(name), { section: "Reasons, by decision" });
}
key("t", "Comment", () => at("comment").focus());
key("Ctrl+Enter", "Submit & next", submit, { inText: true });
key("Enter", "Submit & next, unless a button has the focus", submit);
keys.add({ key: "Escape", section: "Hidden", inText: true, when: () => document.activeElement === at("comment"), run: () => at("title").focus({ preventScroll: true }) });
key("k", "Skip", skip);
key("e", "Escalate, with a note", escalate);
key("u", "Undo the last decision", () => undo(), { when: () => toast.kept !== null });
key("p", "Correct the mask", () => painting.toggle(), { when: () => mine() && evidence !== null });
key("v", "Uploads of the case: decide several", () => cluster.open(), { when: () => mine() && one.members > 1 });
keys.add({ key: "t", label: null, section: "Decide", when: () => one && !mine() && !at("take").hidden, run: take });
evidenceKeys(keys, () => evidence);
painting.keys(keys);

at("decide").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
at("skip").addEventListener("click", skip);
at("escalate").addEventListener("click", escalate);
at("take").addEventListener("click", take);
at("correct").addEventListener("click", () => painting.toggle());
at("variants").addEventListener("click", () => cluster.open());
at("ask-cancel").addEventListener("click", () => at("ask").close());
at("ask-note").addEventListener("keydown", (event) => { if (event.key === "Enter" && event.ctrlKey) at("ask").querySelector("form").requestSubmit(at("ask").querySelector("button[value]")); });
document.querySelector("[data-sheet]").addEventListener("click", () => keys.sheet());
addEventListener("popstate", async () => show(await api(`/review/cases/${location.pathname.split("/").at(-1)}`), { push: false }));

api("/review/exposure").then((exposure) => showExposure(at("exposure"), exposure)).catch(() => {});
try {
  show(await api(`/review/cases/${bench.dataset.case}`));
} catch (problem) {
  at("host").replaceChildren();
  at("title").textContent = "No such case";
  form.enabled = false;
  ban(problem.message, null);
}
