// What the pages share: the header, errors and messages.

import { ApiError, get } from "./api.js";
import { byId, el, icon } from "./dom.js";
import { watchTheme } from "./theme.js";

watchTheme(byId("theme"), icon("theme"));

/** Facts of the server; its version and models are shown. */
export async function loadFacts() {
  const { content } = await get("page/facts");
  byId("version").textContent = content.version;
  byId("model").replaceChildren(...content.models.map((model) => el("option", { value: model.name },
    `${model.name} · ${model.backend} ${model.dtype} · ${model.device}`)));
  byId("model").disabled = false;
  return content;
}

/** Do something whose failure is shown. */
export async function attempt(action) {
  showError("");
  try {
    await action();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showError(error.message);
  }
}

/** Show a sentence about what failed; an empty one hides it. */
export function showError(message) {
  byId("error").textContent = message;
  byId("error").hidden = message === "";
}

/** Tell what happened to those who listen. */
export function say(message) {
  byId("status").textContent = message;
}

/** On a narrow screen, go to what was found. */
export function showResults() {
  if (matchMedia("(max-width: 60rem)").matches) byId("results").scrollIntoView();
}
