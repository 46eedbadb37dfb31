// Light or dark: the system's choice, until the reader makes another one.

import { memory } from "./storage.js";

const theme = memory("gliclass-rerank-theme", { forGood: true });

/** Let a button switch between light and dark colours. */
export function watchTheme(button, picture) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    const chosen = theme.get();
    const isDark = chosen === null ? system.matches : chosen === "dark";
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    button.setAttribute("aria-pressed", String(isDark));
  };
  button.append(picture);
  button.addEventListener("click", () => {
    theme.set(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    show();
  });
  system.addEventListener("change", show);
  show();
}
