// A passage with what the model read of it, and the words that carried its score.

import { el } from "./dom.js";

const LEVELS = 3;
const OUTSIDE = 255;

/**
 * Nodes of a passage: marks where spans are, and what lies outside of the best chunk.
 * Positions count Unicode characters, as Python does, not JavaScript's units.
 */
export function highlighted(text, spans, chunk) {
  const characters = Array.from(text);
  const levels = new Uint8Array(characters.length);
  const most = Math.max(...spans.map((span) => span.score), 0);
  for (const { start, end, score } of spans) {
    const level = most > 0 ? Math.max(1, Math.ceil((LEVELS * score) / most)) : 1;
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
