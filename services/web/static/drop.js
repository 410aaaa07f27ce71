// A form that takes files that are dropped onto it. `taken` hears of them; choosing files works as ever.
export function droppable(form, taken) {
  const stop = (event) => { event.preventDefault(); event.stopPropagation(); };
  for (const name of ["dragenter", "dragover"]) {
    form.addEventListener(name, (event) => { stop(event); form.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) {
    form.addEventListener(name, (event) => { stop(event); form.classList.remove("over"); });
  }
  form.addEventListener("drop", (event) => {
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length > 0) taken(files);
  });
}
