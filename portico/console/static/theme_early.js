// Sets the chosen theme before the first paint. A classic script, so that it runs before the style sheet is applied.
"use strict";
try {
  const chosen = localStorage.getItem("portico.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be switched off; then the system decides.
}
