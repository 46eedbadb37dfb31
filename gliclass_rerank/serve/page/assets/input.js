// Query and passages, pasted or out of files.

import { byId, counted, el, icon } from "./dom.js";

const files = []; // {name, passages}

/** Passages of the form: pasted ones, then those of files. */
export function passages() {
  return [...split(byId("passages").value), ...files.flatMap((file) => file.passages)];
}

/** Replace query and passages, and forget all files. */
export function fill({ query, passages: texts }) {
  byId("query").value = query;
  byId("passages").value = texts.join("\n");
  document.querySelector("input[name=split][value=line]").checked = true;
  files.length = 0;
  showFiles();
}

/** Listen to the form; `onProblem` takes sentences about files that cannot be used. */
export function watchInput(onProblem) {
  byId("passages").addEventListener("input", showCount);
  for (const radio of document.querySelectorAll("input[name=split]")) radio.addEventListener("change", showCount);
  byId("file").addEventListener("change", async (event) => {
    await add(event.target.files, onProblem);
    event.target.value = "";
  });
  const form = byId("ask");
  form.addEventListener("dragover", (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    form.classList.add("dropping");
  });
  form.addEventListener("dragleave", () => form.classList.remove("dropping"));
  form.addEventListener("drop", (event) => {
    form.classList.remove("dropping");
    if (event.dataTransfer.files.length === 0) return;
    event.preventDefault();
    add(event.dataTransfer.files, onProblem);
  });
  showCount();
}

function split(text) {
  const by = document.querySelector("input[name=split]:checked").value;
  return text.split(by === "line" ? /\r?\n/ : /\r?\n[^\S\n]*\r?\n/).map((part) => part.trim()).filter(Boolean);
}

async function add(chosen, onProblem) {
  onProblem("");
  for (const file of chosen) {
    try {
      const found = read(file.name, await file.text());
      if (found.length === 0) throw new Error("it holds no passage");
      files.push({ name: file.name, passages: found });
    } catch (error) {
      onProblem(`${file.name} was left out: ${error.message}.`);
    }
  }
  showFiles();
}

function read(name, text) {
  if (name.endsWith(".jsonl")) {
    const lines = text.split("\n").filter((line) => line.trim());
    return lines.map((line, index) => passageOf(parsed(line), `line ${index + 1}`));
  }
  if (name.endsWith(".json")) {
    const values = parsed(text);
    if (!Array.isArray(values)) throw new Error("it must hold a list");
    return values.map((value, index) => passageOf(value, `entry ${index + 1}`));
  }
  if (text.includes("\0")) throw new Error("it is no text");
  return split(text);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`it is not JSON: ${text.trim().slice(0, 40)}`);
  }
}

function passageOf(value, place) {
  if (typeof value === "string") return value;
  if (typeof value?.text !== "string") throw new Error(`${place} has no “text”`);
  return value.title ? `${value.title} ${value.text}` : value.text;
}

function showFiles() {
  byId("files").replaceChildren(...files.map((file) => el("li", {},
    el("span", {}, file.name), " ", el("small", {}, counted(file.passages.length, "passage")),
    el("button", {
      type: "button", class: "quiet round small", "aria-label": `Remove ${file.name}`,
      on: { click: () => { files.splice(files.indexOf(file), 1); showFiles(); byId("passages").focus(); } },
    }, icon("close")))));
  showCount();
}

function showCount() {
  byId("count").textContent = counted(passages().length, "passage");
}
