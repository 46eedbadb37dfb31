// Chart of what moved: the given order to the left, the ranked one to the right.

import { svg } from "./dom.js";

const MOST = 20;
const ROW = 15;
const WIDTH = 240;
const LEFT = 28;
const RIGHT = WIDTH - 28;
const TOP = 12;

/** Draw the chart; `order` holds the given positions, best first. */
export function movementChart(order) {
  const kept = order.map((from, to) => ({ from, to })).filter(({ from, to }) => from < MOST && to < MOST);
  const height = TOP * 2 + ROW * (Math.min(order.length, MOST) - 1);
  const moved = order.filter((from, to) => from !== to).length;
  return svg("svg", {
    viewBox: `0 0 ${WIDTH} ${height}`, class: "movement", role: "img",
    "aria-label": `${moved} of ${order.length} passages moved; the first one was number ${order[0] + 1}`,
  }, ...kept.reverse().map(line));
}

/** "up", "down" or "same". */
export function direction(from, to) {
  return from > to ? "up" : from < to ? "down" : "same";
}

function line({ from, to }) {
  const [y, z, middle] = [TOP + ROW * from, TOP + ROW * to, WIDTH / 2];
  return svg("g", { class: direction(from, to), "data-index": from },
    svg("path", { d: `M${LEFT} ${y}C${middle} ${y} ${middle} ${z} ${RIGHT} ${z}` }),
    svg("circle", { cx: LEFT, cy: y, r: 3 }), svg("circle", { cx: RIGHT, cy: z, r: 3 }),
    svg("text", { x: LEFT - 9, y: y + 4, "text-anchor": "end" }, String(from + 1)),
    svg("text", { x: RIGHT + 9, y: z + 4 }, String(to + 1)));
}
