// Adds the session's token to everything that this page sends to our own server and that changes something: requests of
// htmx, fetch and XMLHttpRequest in a header, forms in a field. Pages need not think of it.
const token = document.querySelector('meta[name="csrf-token"]')?.content;
const HEADER = "X-CSRF-Token";
const safe = (method) => ["GET", "HEAD", "OPTIONS"].includes((method || "GET").toUpperCase());
const ours = (address) => new URL(address, location.href).origin === location.origin;

if (token) {
  const fetched = window.fetch;
  window.fetch = (resource, options) => {
    const request = new Request(resource, options);
    if (!safe(request.method) && ours(request.url)) request.headers.set(HEADER, token);
    return fetched(request);
  };

  const { open, send, setRequestHeader } = XMLHttpRequest.prototype;
  const wanting = new WeakSet();
  XMLHttpRequest.prototype.open = function (method, address, ...rest) {
    if (!safe(method) && ours(address)) wanting.add(this);
    return open.call(this, method, address, ...rest);
  };
  XMLHttpRequest.prototype.send = function (body) {
    if (wanting.has(this)) setRequestHeader.call(this, HEADER, token);
    return send.call(this, body);
  };

  document.addEventListener("submit", (event) => {
    const form = event.target;
    const by = event.submitter;
    const method = by?.getAttribute("formmethod") || form.getAttribute("method");
    const action = by?.getAttribute("formaction") || form.getAttribute("action") || location.href;
    if (safe(method) || !ours(action) || form.querySelector('input[name="csrf"]')) return;
    const field = document.createElement("input");
    field.type = "hidden";
    field.name = "csrf";
    field.value = token;
    form.prepend(field); // first, so that the server finds it before a file
  }, true);
}
