// The page: form in, ranking out.

import { ApiError, call } from "./api.js";
import { byId, counted, el } from "./dom.js";
import { attempt, loadFacts, say, showError, showResults } from "./frame.js";
import { fill, passages, watchInput } from "./input.js";
import { arrange, cards } from "./results.js";
import { SAMPLES } from "./samples.js";
import { examples, notes, summary } from "./summary.js";

let facts = null;
let running = null; // AbortController of the ranking under way
let shown = null; // request of the ranking on the page
let items = [];
let sample = 0;

watchInput(showError);
fill(SAMPLES[0]);
byId("ask").addEventListener("submit", (event) => { event.preventDefault(); attempt(rank); });
byId("ask").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("ask").requestSubmit();
});
byId("sample").addEventListener("click", () => {
  sample = (sample + 1) % SAMPLES.length;
  fill(SAMPLES[sample]);
});
byId("model").addEventListener("change", () => { if (shown !== null) attempt(rank); });
for (const radio of document.querySelectorAll("input[name=order]")) {
  radio.addEventListener("change", () => arrange(byId("hits"), items, radio.value));
}
for (const event of ["pointerover", "focusin", "pointerout", "focusout"]) {
  byId("hits").addEventListener(event, ({ target, type }) => {
    point(type === "pointerout" || type === "focusout" ? null : target.closest(".hit")?.dataset.index ?? null);
  });
}
attempt(start);

async function start() {
  facts = await loadFacts();
  byId("reports").hidden = !facts.reports;
}

async function rank() {
  if (facts === null) await start();
  const request = {
    query: byId("query").value, passages: passages(), model: byId("model").value, spans: byId("spans").checked,
  };
  if (request.passages.length === 0) throw new ApiError("There is no passage to rank. Paste some, one a line.");
  const answer = await explained(request);
  if (answer === null) return;
  document.querySelector("input[name=order][value=after]").checked = true;
  const { hits } = answer.content;
  say(`Ranked ${counted(hits.length, "passage")}. Now first: number ${hits[0].index + 1}.`);
  showResults();
}

async function judge(hit, verdict) {
  const { query, model } = shown;
  const place = () => items.findIndex((item) => Number(item.dataset.index) === hit.index) + 1;
  const before = place();
  await call("feedback", { query, model, [verdict]: [shown.passages[hit.index]] });
  if (await explained(shown) === null) return;
  say(`Learned as ${verdict}. Was number ${before}, is number ${place()} now.`);
  document.querySelector(`#hits [data-index="${hit.index}"] [data-verdict=${verdict}]`)?.focus();
}

/** Ask for a ranking and show it; null if another one was asked for meanwhile. */
async function explained(request) {
  running?.abort();
  const mine = running = new AbortController();
  document.body.classList.add("busy");
  say("Ranking …");
  try {
    const answer = await call("explain", request, mine.signal);
    show(request, answer);
    return answer;
  } catch (error) {
    if (error.name === "AbortError") return null;
    throw error;
  } finally {
    if (running === mine) document.body.classList.remove("busy");
  }
}

function show(request, { content, ...timing }) {
  shown = request;
  const learns = facts.models.find((model) => model.name === content.model)?.learns ?? false;
  const onJudged = (hit, verdict) => attempt(() => judge(hit, verdict));
  items = cards(content.hits, request.passages, { learns, onJudged });
  byId("empty").hidden = true;
  byId("found").hidden = false;
  byId("summary").replaceChildren(...summary(content, timing, request.passages, items));
  byId("notes").replaceChildren(...notes(content), ...(learns ? [] : [teachable()]));
  byId("examples").replaceChildren(...examples(content.examples));
  arrange(byId("hits"), items, document.querySelector("input[name=order]:checked").value);
}

function teachable() {
  return el("p", { class: "note hint" }, "To teach it with thumbs, start the server with ",
    el("code", {}, "--example-store judged.db"), ".");
}

/** Point out one passage in the chart; null for none. */
function point(index) {
  for (const line of document.querySelectorAll(".movement g")) {
    line.classList.toggle("pointed", line.dataset.index === index);
  }
}
