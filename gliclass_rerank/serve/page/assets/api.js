// Requests to the server that the page came from.

import { byId, el } from "./dom.js";
import { memory } from "./storage.js";

const key = memory("gliclass-rerank-key");

/** Failed request, with a sentence for the reader. */
export class ApiError extends Error {}

/** GET a path; see `call`. */
export const get = (path, signal) => call(path, undefined, signal);

/**
 * POST an object, or GET without one; asks for a key when the server does.
 * Returns the content, and the milliseconds that the server and the whole request took.
 */
export async function call(path, body, signal) {
  for (;;) {
    const began = performance.now();
    const response = await sent(path, body, signal);
    if (response.status === 401) {
      await askForKey(key.get() === null ? "" : "The server does not know this key.");
      continue;
    }
    const content = await response.json().catch(() => null);
    if (!response.ok) throw new ApiError(sentence(content, response.status));
    if (content === null) throw new ApiError("The server’s answer could not be read.");
    const totalMs = performance.now() - began;
    return { content, totalMs, serverMs: Number(response.headers.get("x-total-time") ?? totalMs) };
  }
}

async function sent(path, body, signal) {
  const headers = {};
  if (key.get() !== null) headers.authorization = `Bearer ${key.get()}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  try {
    return await fetch(path, {
      method: body === undefined ? "GET" : "POST", headers, signal,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached. Is it still running?");
  }
}

function sentence(content, status) {
  const message = content?.error?.message;
  return typeof message === "string" ? message : `The server answered with status ${status}.`;
}

let asking = null; // requests that fail together ask once

function askForKey(problem) {
  asking ??= dialog(problem).finally(() => { asking = null; });
  return asking;
}

function dialog(problem) {
  const box = byId("key") ?? keyDialog();
  byId("key-problem").textContent = problem;
  byId("key-value").value = "";
  box.returnValue = "";
  box.showModal();
  return new Promise((resolve, reject) => {
    box.addEventListener("close", () => {
      const given = byId("key-value").value.trim();
      if (box.returnValue !== "use" || given === "") {
        reject(new ApiError("This server needs a key. Try again to enter one."));
        return;
      }
      // A header holds Latin-1 only; anything else would never leave the browser.
      key.set([...given].map((char) => (char.codePointAt(0) < 256 ? char : "?")).join(""));
      resolve();
    }, { once: true });
  });
}

function keyDialog() {
  const box = el("dialog", { id: "key", "aria-labelledby": "key-title" },
    el("form", { method: "dialog" },
      el("h2", { id: "key-title" }, "This server asks for a key"),
      el("p", { id: "key-problem" }),
      el("label", { for: "key-value" }, "API key"),
      el("input", { id: "key-value", type: "password", autocomplete: "off", required: true }),
      el("p", { class: "hint" }, "Kept until this tab is closed."),
      el("div", { class: "row" },
        el("button", { value: "use", class: "primary" }, "Use it"),
        el("button", { value: "", class: "quiet", formnovalidate: true }, "Cancel"))));
  document.body.append(box);
  return box;
}
