// Elements made by hand: text is always a text node, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Create an element; `on` holds listeners, `class` and other attributes go by name, null leaves one out. */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** Create an SVG element. */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** Element of the page by its id. */
export function byId(id) {
  return document.getElementById(id);
}

/** Thousands with a comma. */
export function number(value, digits = 0) {
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** "1 passage", "2 passages". */
export function counted(count, noun) {
  return `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
}

const ICONS = {
  up: "M7 10v10H3V10zM10 20h7.5a2 2 0 0 0 2-1.6l1.2-6A2 2 0 0 0 18.8 10H14V5.5A2.5 2.5 0 0 0 11.5 3L10 10z",
  down: "M17 14V4h4v10zM14 4H6.5a2 2 0 0 0-2 1.6l-1.2 6A2 2 0 0 0 5.2 14H10v4.5a2.5 2.5 0 0 0 2.5 2.5L14 14z",
  theme: "M12 4a8 8 0 1 0 0 16a8 8 0 0 0 0-16M12 4v16M14 6v12M16 8v8M18 10v4",
  close: "M6 6l12 12M18 6L6 18",
};

/** Icon of the page's own. */
export function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: `icon icon-${name}`, "aria-hidden": "true" },
    svg("path", { d: ICONS[name] }));
}

function filled(element, { on = {}, ...attributes }, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  for (const [event, listener] of Object.entries(on)) element.addEventListener(event, listener);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}
