// Slider for the lowest score that would be kept, and what keeping less would save.

import { counted, el, number } from "./dom.js";

let least = 0; // stays when a new ranking comes

/** Slider over a ranking; `items` are its cards. */
export function keepSlider(hits, texts, items) {
  const size = (some) => some.reduce((sum, hit) => sum + texts[hit.index].length, 0);
  const words = el("p", { class: "kept", "aria-live": "polite" });
  const value = el("output", { for: "keep" });
  const show = () => {
    const kept = hits.filter((hit) => hit.score >= least);
    hits.forEach((hit, place) => items[place].classList.toggle("dropped", hit.score < least));
    value.textContent = least.toFixed(2);
    const saved = Math.round(100 * (1 - size(kept) / (size(hits) || 1)));
    words.textContent = `${number(kept.length)} of ${counted(hits.length, "passage")} kept, `
      + `${saved} % less text to read`;
  };
  const slider = el("input", {
    type: "range", id: "keep", min: "0", max: "1", step: "0.01", value: String(least),
    on: { input: (event) => { least = Number(event.target.value); show(); } },
  });
  show();
  return el("div", { class: "keep" },
    el("div", { class: "row" }, el("label", { for: "keep" }, "Keep scores from"), value), slider, words);
}
