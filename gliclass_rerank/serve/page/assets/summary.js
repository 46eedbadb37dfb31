// What a ranking amounts to: what moved, whether an answer is among it, and where the time went.

import { counted, el, number } from "./dom.js";
import { keepSlider } from "./keep.js";
import { movementChart } from "./movement.js";

/** Panels of a ranking; `items` are its cards. */
export function summary(content, timing, texts, items) {
  const slider = keepSlider(content.hits, texts, items);
  return [movement(content.hits), answer(content, slider), time(content, timing)].filter(Boolean);
}

/** Sentences on what the model could not read, and on its examples. */
export function notes(content) {
  const found = [...content.warnings];
  if (content.query_cut) {
    found.unshift(`The query’s middle was cut: ${number(content.query_cut.num_lost)} of `
      + `${counted(content.query_cut.num_tokens, "token")} were not read.`);
  }
  const cut = content.hits.filter((hit) => hit.cut).length;
  if (cut > 0) found.push(`The end of ${counted(cut, "passage")} was not read.`);
  return found.map((text) => el("p", { class: "note" }, text));
}

/** Examples that counted, folded. */
export function examples(shown) {
  if (shown.length === 0) return [];
  const list = (title, texts) => texts.length === 0 ? null
    : el("div", {}, el("dt", {}, title), ...texts.map((text) => el("dd", { dir: "auto" }, text)));
  return [el("details", { class: "panel examples", open: true },
    el("summary", {}, `${counted(shown.length, "judged example")} counted`),
    ...shown.map((example) => el("article", {},
      el("h3", { dir: "auto" }, example.query),
      el("dl", {}, list("Relevant", example.relevant), list("Irrelevant", example.irrelevant)))))];
}

function movement(hits) {
  if (hits.length < 2) return null;
  const order = hits.map((hit) => hit.index);
  const moved = order.filter((from, to) => from !== to).length;
  return el("section", { class: "panel tile tall" },
    el("h2", {}, "Movement"),
    el("p", { class: "big" }, number(moved), el("small", {}, ` of ${number(order.length)} moved`)),
    el("div", { class: "legend ends", "aria-hidden": "true" }, el("span", {}, "before"), el("span", {}, "after")),
    movementChart(order));
}

function answer({ answerable, hits }, slider) {
  const best = hits[0]?.score ?? 0;
  const value = answerable ?? best;
  const bar = el("span", { class: "fill" });
  bar.style.inlineSize = `${value * 100}%`;
  return el("section", { class: "panel tile" },
    el("h2", {}, answerable === null || answerable === undefined ? "Best score" : "An answer is here"),
    el("p", { class: "big" }, `${number(value * 100)} %`, el("small", {}, verdict(value))),
    el("span", { class: "bar wide", "aria-hidden": "true" }, bar), slider);
}

function verdict(value) {
  return value > 0.75 ? " very likely" : value > 0.5 ? " likely" : value > 0.25 ? " doubtful" : " unlikely";
}

function time(content, { totalMs, serverMs }) {
  const known = content.waiting_ms + content.ranking_ms + content.spans_ms;
  const stages = [
    ["waiting", "in the queue", content.waiting_ms],
    ["ranking", "ranking", content.ranking_ms],
    ["marking", "marking what counts", content.spans_ms],
    ["server", "the rest", Math.max(0, serverMs - known)],
    ["network", "network", Math.max(0, totalMs - Math.max(serverMs, known))],
  ];
  const whole = stages.reduce((sum, [, , ms]) => sum + ms, 0) || 1;
  const parts = stages.map(([name, , ms]) => {
    const part = el("span", { class: `stage ${name}` });
    part.style.inlineSize = `${(100 * ms) / whole}%`;
    return part;
  });
  return el("section", { class: "panel tile" },
    el("h2", {}, "Time"),
    el("p", { class: "big" }, duration(whole), el("small", {}, ` for ${counted(content.num_tokens, "token")}`)),
    el("div", { class: "bar wide stages", "aria-hidden": "true" }, ...parts),
    el("ul", { class: "legend" }, ...stages.map(([name, words, ms]) => el("li", { class: name },
      el("span", {}, words), el("b", {}, duration(ms))))));
}

function duration(ms) {
  return ms < 1000 ? `${number(ms, ms < 10 ? 1 : 0)} ms` : `${number(ms / 1000, 1)} s`;
}
