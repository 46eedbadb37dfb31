// A passage with what the model read of it, and what carried its score.

import { el } from "./dom.js";

const LEAST = [0.15, 0.35, 0.6]; // share of the strongest span for each level of a mark
const FAINT = 0.2; // where nothing scores higher, nothing is marked strongly
const OUTSIDE = 255;

/** What marks are measured by: the strongest span of a ranking, in its passage. */
export function strongest(hits) {
  return Math.max(FAINT ** 2, ...hits.flatMap((hit) => hit.spans.map((span) => span.score * hit.score)));
}

/**
 * Nodes of a passage: marks where spans are, and what lies outside of the best chunk.
 * Positions count Unicode characters, as Python does, not JavaScript's units.
 */
export function highlighted(text, { spans, chunk, score: whole }, most) {
  const characters = Array.from(text);
  const levels = new Uint8Array(characters.length);
  for (const { start, end, score } of spans) {
    const level = LEAST.filter((share) => score * whole >= share * most).length;
    for (let at = start; at < end; at += 1) levels[at] = Math.max(levels[at], level);
  }
  if (chunk) {
    levels.fill(OUTSIDE, 0, chunk.start);
    levels.fill(OUTSIDE, chunk.end);
  }
  const nodes = [];
  for (let start = 0, end; start < characters.length; start = end) {
    for (end = start + 1; end < characters.length && levels[end] === levels[start]; end += 1);
    nodes.push(piece(characters.slice(start, end).join(""), levels[start]));
  }
  return nodes;
}

function piece(text, level) {
  if (level === 0) return document.createTextNode(text);
  if (level === OUTSIDE) return el("span", { class: "outside" }, text);
  return el("mark", { class: `level-${level}` }, text);
}
