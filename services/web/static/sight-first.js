// Runs before the page is painted: what this person chose to see, as last known on this machine (see sight.js).
try {
  const kept = JSON.parse(localStorage.getItem("pentimento-sight") || "{}");
  const root = document.documentElement;
  if (kept.blur === false) root.dataset.blur = "off";
  if (kept.greyscale === true) root.dataset.grey = "on";
  if (kept.theme === "light" || kept.theme === "dark") root.dataset.theme = kept.theme;
} catch { /* no storage: pictures stay blurred */ }
