// The ranking: cards that move when the order changes.

import { counted, el, icon, number } from "./dom.js";
import { highlighted, strongest } from "./highlight.js";
import { direction } from "./movement.js";

const MOVING = { duration: 420, easing: "cubic-bezier(.2,.7,.2,1)" };
const ARROWS = { up: "▲", down: "▼", same: "=" };

/**
 * Cards of a ranking, best first.
 * `learns` says if thumbs can be stored; `onJudged` takes the hit and "relevant" or "irrelevant".
 */
export function cards(hits, texts, { learns, onJudged }) {
  const most = strongest(hits);
  return hits.map((hit, place) => card(hit, texts[hit.index], place, most, learns, onJudged));
}

/** Put cards into a list, by rank or in the given order; those that stay glide to their new places. */
export function arrange(list, items, order) {
  const before = new Map([...list.children].map((item) => [item.dataset.index, item.getBoundingClientRect().top]));
  const by = order === "before" ? "index" : "place";
  list.replaceChildren(...[...items].sort((one, other) => one.dataset[by] - other.dataset[by]));
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const item of list.children) {
    const moved = (before.get(item.dataset.index) ?? NaN) - item.getBoundingClientRect().top;
    if (moved) item.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], MOVING);
  }
}

function card(hit, text, place, most, learns, onJudged) {
  return el("li", { class: `hit panel ${hit.judged ?? ""}`, "data-index": hit.index, "data-place": place },
    rank(hit.index, place),
    el("div", { class: "said" }, passage(hit, text, most), tags(hit)),
    el("div", { class: "worth" }, ...score(hit), learns ? thumbs(hit, place, onJudged) : null));
}

function rank(from, to) {
  const way = direction(from, to);
  const words = way === "same" ? "did not move" : `${way} ${Math.abs(from - to)}, was number ${from + 1}`;
  return el("div", { class: "rank" },
    el("b", {}, el("span", { class: "unseen" }, "Number "), String(to + 1)),
    el("span", { class: `moved ${way}`, title: words },
      el("span", { "aria-hidden": "true" }, ARROWS[way], way === "same" ? "" : String(Math.abs(from - to))),
      el("span", { class: "unseen" }, words)));
}

function passage(hit, text, most) {
  const shown = el("p", { class: "text", dir: "auto" }, ...highlighted(text, hit, most));
  const more = el("button", {
    type: "button", class: "link", "aria-expanded": "false", hidden: true,
    on: { click: () => {
      const isOpen = shown.classList.toggle("whole");
      more.textContent = isOpen ? "Show less" : "Show all";
      more.setAttribute("aria-expanded", String(isOpen));
    } },
  }, "Show all");
  // Known only when it is laid out.
  new ResizeObserver(() => {
    if (!shown.classList.contains("whole")) more.hidden = shown.scrollHeight <= shown.clientHeight + 1;
  }).observe(shown);
  return el("div", {}, shown, more);
}

function tags(hit) {
  const found = [];
  if (hit.judged) found.push(["judged", `judged ${hit.judged}`]);
  if (hit.carried_over) {
    found.push(["judged", `${hit.carried_over > 0 ? "relevant" : "irrelevant"} to a similar query`]);
  }
  if (hit.chunk) found.push(["", "long: its best part is shown dark"]);
  if (hit.cut) found.push(["warn", `${number(hit.cut.num_lost)} of ${counted(hit.cut.num_tokens, "token")} not read`]);
  return found.length === 0 ? null
    : el("ul", { class: "tags" }, ...found.map(([kind, words]) => el("li", { class: kind }, words)));
}

function score(hit) {
  const bar = el("span", { class: "fill" });
  bar.style.inlineSize = `${hit.score * 100}%`;
  return [
    el("p", { class: "score", title: `logit ${hit.logit.toFixed(3)}` },
      el("span", { class: "unseen" }, "Score "), hit.score.toFixed(3)),
    el("span", { class: "bar", "aria-hidden": "true" }, bar),
  ];
}

function thumbs(hit, place, onJudged) {
  const thumb = (name, verdict) => el("button", {
    type: "button", class: "quiet round thumb", "aria-pressed": String(hit.judged === verdict),
    "aria-label": `Number ${place + 1} is ${verdict}`, title: `Teach: ${verdict}`, "data-verdict": verdict,
    on: { click: () => onJudged(hit, verdict) },
  }, icon(name));
  return el("div", { class: "thumbs" }, thumb("up", "relevant"), thumb("down", "irrelevant"));
}
