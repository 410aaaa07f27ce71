// The HTTP API for pages: JSON in, JSON out, problems as exceptions.

export class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** `body` is sent as JSON unless it is a Blob. Raises Problem, also where nobody answers (status 0). */
export async function api(path, { method = "GET", body, headers = {} } = {}) {
  const raw = body instanceof Blob;
  const given = { accept: "application/json", ...headers };
  if (body !== undefined) given["content-type"] = raw ? body.type : "application/json";
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, { method, headers: given, body: body === undefined || raw ? body : JSON.stringify(body) });
  } catch {
    throw new Problem(0, "away", "The server does not answer. Nothing was lost: try again.");
  }
  if (answer.status === 204) return null;
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Problem(answer.status, String(value.type ?? "").split(":").at(-1), value.detail ?? answer.statusText);
  return value;
}

/** A key that makes sending the same thing twice harmless. */
export function onceKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** How long ago, in the largest unit. */
export function age(time) {
  const seconds = Math.max(0, (Date.now() - Date.parse(time)) / 1000);
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) if (seconds >= size) return `${Math.floor(seconds / size)} ${unit}`;
  return "under 1 min";
}

export const percent = (share, digits = 0) => (share === null || share === undefined ? "–" : `${(share * 100).toFixed(digits)}%`);

/** An element with properties and children; text is never markup. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value; else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** What somebody has seen today, of what they should see at most. */
export function showExposure(host, exposure) {
  if (!host || !exposure) return;
  const parts = [];
  const one = (label, used, limit, unit) => {
    const text = limit === null ? `${used} ${unit}` : `${used} of ${limit} ${unit}`;
    const part = make("span", { className: "meter" }, text);
    if (limit !== null) part.append(make("meter", { min: 0, max: limit, value: Math.min(used, limit), high: limit * 0.8, ariaLabel: label }));
    parts.push(part);
  };
  one("Cases today", exposure.cases, exposure.cases_limit, (exposure.cases_limit ?? exposure.cases) === 1 ? "case" : "cases");
  one("Minutes today", Math.round(exposure.minutes), exposure.minutes_limit, "min");
  host.replaceChildren("Today ", ...parts, exposure.used_up ? make("b", {}, " That is enough for today.") : "");
}
