// Page of reports: queries and documents in, verdict and report out.

import { ApiError, call } from "./api.js";
import { byId, counted, el, icon } from "./dom.js";
import { attempt, loadFacts, say, showResults } from "./frame.js";

const FIELDS = ["queries", "corpus", "run", "judgements"];
const files = Object.fromEntries(FIELDS.map((field) => [field, []])); // read when they are sent
let running = null; // AbortController of the report under way
let address = null; // of the report that is shown

for (const field of FIELDS) {
  byId(`${field}-file`).addEventListener("change", () => take(field));
  take(field); // what was chosen before this ran
}
byId("ask").addEventListener("submit", (event) => { event.preventDefault(); attempt(compare); });
byId("stop").addEventListener("click", () => running?.abort());
attempt(async () => {
  const facts = await loadFacts();
  byId("depth").max = facts.max_documents;
  byId("depth").value = Math.min(byId("depth").valueAsNumber, facts.max_documents);
});

async function compare() {
  const [queries] = await given("queries", "query");
  const [run] = await texts("run");
  const [judgements] = await texts("judgements");
  const request = {
    queries, corpus: await given("corpus", "document"), run, judgements,
    depth: byId("depth").valueAsNumber, limit: byId("limit").valueAsNumber, model: byId("model").value || undefined,
  };
  running?.abort();
  const mine = running = new AbortController();
  busy(true);
  say("Reranking …");
  try {
    show((await call("report", request, mine.signal)).content);
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    say("Stopped.");
  } finally {
    if (running === mine) busy(false);
  }
}

/** Files of a field, else what was typed into it. */
async function given(field, noun) {
  if (files[field].length > 0) return texts(field);
  const text = byId(field).value;
  if (text.trim() === "") throw new ApiError(`There is no ${noun}. Paste some, one a line, or add a file.`);
  return [{ name: `${field}.txt`, text }];
}

/** Names and texts of a field's files. */
function texts(field) {
  return Promise.all(files[field].map(async (file) => {
    try {
      return { name: file.name, text: await file.text() };
    } catch {
      throw new ApiError(`${file.name} cannot be read any more. Choose it again.`);
    }
  }));
}

/** Take the files over that were chosen. */
function take(field) {
  const input = byId(`${field}-file`);
  if (input.files.length > 0) files[field] = [...input.files];
  input.value = "";
  showFiles(field);
}

function show({ findings, html }) {
  if (address !== null) URL.revokeObjectURL(address);
  address = URL.createObjectURL(new Blob([html], { type: "text/html" }));
  byId("found").replaceChildren(
    ...findings.map(({ retriever, kind, sentence }) => el("article", { class: `panel tile verdict ${kind}` },
      el("h2", {}, `After ${retriever}`), el("p", {}, sentence))),
    el("p", { class: "row starts" },
      el("a", { class: "button primary", id: "open", href: address, target: "_blank" }, "Open the report"),
      el("a", { class: "button quiet", id: "save", href: address, download: "report.html" }, "Save it")));
  byId("empty").hidden = true;
  byId("found").hidden = false;
  say(`The report is ready. ${findings.map(({ retriever, sentence }) => `After ${retriever}: ${sentence}`).join(" ")}`);
  showResults();
}

function showFiles(field) {
  byId(`${field}-files`).replaceChildren(...files[field].map((file) => el("li", {},
    el("span", {}, file.name), " ", el("small", {}, counted(file.size, "byte")),
    el("button", {
      type: "button", class: "quiet round small", "aria-label": `Remove ${file.name}`,
      on: { click: () => { files[field] = files[field].filter((each) => each !== file); showFiles(field); } },
    }, icon("close")))));
  const typed = byId(field);
  if (typed !== null) typed.disabled = files[field].length > 0;
}

function busy(isBusy) {
  document.body.classList.toggle("busy", isBusy);
  byId("stop").hidden = byId("working").hidden = !isBusy;
}
