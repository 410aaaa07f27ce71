// A one-time link has its ticket behind the #: it goes into the form, and out of the address bar and the history.
const ticket = location.hash.slice(1);
if (ticket) {
  history.replaceState(null, "", location.pathname);
  const form = document.getElementById("enter");
  form.elements.ticket.value = ticket;
  form.requestSubmit();
}
