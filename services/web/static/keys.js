// Keyboard shortcuts: one place that knows them all, runs them, and shows them on a sheet (`?`).
// Single keys can be switched off there (WCAG 2.1.4); while somebody types they are off by themselves.

const OFF = "pentimento-keys-off";
const TYPING = new Set(["text", "search", "password", "email", "number", "url", "date", "datetime-local"]);

function typing(target) {
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable
    || (target instanceof HTMLInputElement && TYPING.has(target.type));
}

/** Whether the element has a meaning of its own for a key. */
function own(target, key) {
  if (target instanceof HTMLButtonElement || target instanceof HTMLAnchorElement || target.tagName === "SUMMARY") return key === "Enter" || key === " ";
  if (target instanceof HTMLInputElement) {
    if (target.type === "range") return key.startsWith("Arrow") || key === "Home" || key === "End" || key.startsWith("Page");
    return key === " " || key === "Enter" || (target.type === "radio" && key.startsWith("Arrow"));
  }
  return false;
}

export class Keys {
  constructor() {
    this.bindings = [];
    this.scopes = ["page"];
    this.off = localStorage.getItem(OFF) === "yes";
    document.addEventListener("keydown", (event) => this.#down(event));
    document.addEventListener("keyup", (event) => this.#up(event));
    this.add({ key: "?", label: "This sheet", section: "Everywhere", always: true, run: () => this.sheet() });
  }

  /** `key` as KeyboardEvent has it (a letter: lower case), with "Shift+" or "Ctrl+" before it. `scope`: when it holds.
   *  `inText`: also while typing. `held`: called when the key is let go after having been held. */
  add(binding) { this.bindings.push({ scope: "page", section: "Pictures", ...binding }); }

  /** A scope on top: its keys win over those below. */
  enter(scope) { this.leave(scope); this.scopes.unshift(scope); }
  leave(scope) { this.scopes = this.scopes.filter((each) => each !== scope); }

  #find(event) {
    const letter = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const shifted = event.shiftKey && (/^[a-z]$/.test(letter) || event.key.length > 1);
    const name = (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + (shifted ? "Shift+" : "") + letter;
    for (const scope of this.scopes) {
      const found = this.bindings.find((b) => b.scope === scope && [b.key].flat().includes(name) && (!b.when || b.when()));
      if (found) return found;
    }
    return null;
  }

  #down(event) {
    if (event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
    const found = this.#find(event);
    if (!found) return;
    const single = !event.ctrlKey && !event.metaKey;
    if (typing(event.target) && !found.inText) return;
    if (single && own(event.target, event.key)) return;
    if (single && this.off && event.key.length === 1 && !found.always) return;
    event.preventDefault();
    if (event.repeat && !found.repeats) return;
    this.pressed = { binding: found, at: event.timeStamp };
    found.run(event);
  }

  #up(event) {
    const { binding, at } = this.pressed ?? {};
    if (binding?.held && [binding.key].flat().includes(event.key.toLowerCase()) && event.timeStamp - at > 400) binding.held();
    this.pressed = null;
  }

  /** All shortcuts that hold here, in a dialog. The focus returns to where it was. */
  sheet() {
    const dialog = document.createElement("dialog");
    dialog.className = "sheet-of-keys";
    dialog.setAttribute("aria-label", "Keyboard shortcuts");
    const head = document.createElement("h2");
    head.textContent = "Keyboard shortcuts";
    const columns = document.createElement("div");
    columns.className = "columns";
    columns.tabIndex = 0;
    columns.setAttribute("role", "group");
    columns.setAttribute("aria-label", "All shortcuts");
    for (const section of new Set(this.bindings.filter((b) => b.section !== "Hidden").map((b) => b.section))) columns.append(this.#section(section));
    const choice = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = !this.off;
    box.addEventListener("change", () => { this.off = !box.checked; localStorage.setItem(OFF, this.off ? "yes" : "no"); });
    choice.append(box, " Single keys work as shortcuts");
    const close = document.createElement("button");
    close.textContent = "Close";
    close.autofocus = true;
    close.addEventListener("click", () => dialog.close());
    const foot = document.createElement("p");
    foot.className = "foot";
    foot.append(choice, close);
    dialog.append(head, columns, foot);
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  #section(name) {
    const part = document.createElement("section");
    const head = document.createElement("h3");
    head.textContent = name;
    const list = document.createElement("dl");
    for (const binding of this.bindings.filter((b) => b.section === name && b.label)) {
      const term = document.createElement("dt");
      for (const each of [binding.key].flat().slice(0, 2)) term.append(...kbds(each));
      const meaning = document.createElement("dd");
      meaning.textContent = typeof binding.label === "function" ? binding.label() : binding.label;
      list.append(term, meaning);
    }
    part.append(head, list);
    return part;
  }
}

const NAMES = { " ": "Space", ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Escape: "Esc", Delete: "Del" };

function kbds(key) {
  return key.split(/(?<=.)\+(?=.)/).map((part) => {
    const shown = document.createElement("kbd");
    shown.textContent = NAMES[part] ?? (part.length === 1 ? part.toUpperCase() : part);
    return shown;
  });
}

/** Says something to people who listen. One region for the page, which is there before anything is said. */
export function say(text) {
  const region = document.getElementById("announcer");
  if (!region) return;
  region.textContent = "";
  requestAnimationFrame(() => { region.textContent = text; });
}
