// A picture that is dropped onto the search is looked for at once.
import { droppable } from "./drop.js";

const form = document.getElementById("drop");
const input = document.getElementById("picture");
const wrong = document.getElementById("drop-wrong");

droppable(form, (files) => {
  if (files.length > 1) {
    wrong.textContent = "One picture at a time.";
    wrong.hidden = false;
    return;
  }
  const chosen = new DataTransfer();
  chosen.items.add(files[0]);
  input.files = chosen.files;
  form.requestSubmit();
});
