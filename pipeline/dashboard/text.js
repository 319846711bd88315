// Numbers and nodes as the page shows them.

const NONE = "–";

export function count(value, digits = 0) {
  if (value === undefined || Number.isNaN(value)) return NONE;
  if (value >= 1e6) return new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 }).format(value);
  return new Intl.NumberFormat("en", { maximumFractionDigits: digits }).format(value);
}

export function rate(value) {
  return count(value, value < 10 ? 1 : 0);
}

export function percent(value) {
  return value === undefined || Number.isNaN(value) ? NONE : `${(100 * value).toFixed(value > 0.999 && value < 1 ? 2 : 1)} %`;
}

export function bytes(value) {
  if (value === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const unit = Math.min(units.length - 1, value > 0 ? Math.floor(Math.log2(value) / 10) : 0);
  return `${(value / 1024 ** unit).toFixed(unit && value / 1024 ** unit < 100 ? 1 : 0)} ${units[unit]}`;
}

// Three digits or so, whatever the size.
export function seconds(value) {
  if (value === undefined || Number.isNaN(value)) return NONE;
  if (value === Infinity) return "> 60 s";
  const round = (number) => (number < 10 ? number.toFixed(1).replace(/\.0$/, "") : number.toFixed(0));
  if (value === 0) return "0 s";
  if (value < 0.9995e-3) return `${round(value * 1e6)} µs`;
  if (value < 0.9995) return `${round(value * 1e3)} ms`;
  if (value < 90) return `${round(value)} s`;
  if (value < 5400) return `${round(value / 60)} min`;
  if (value < 129600) return `${round(value / 3600)} h`;
  return `${round(value / 86400)} days`;
}

export function clock(date) {
  return date.toLocaleTimeString("en-GB");
}

// An element with attributes and children; text stays text.
export function node(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

// <dl> of name -> value.
export function showFacts(list, facts) {
  list.replaceChildren(
    ...Object.entries(facts).map(([name, value]) => node("div", {}, node("dt", {}, name), node("dd", {}, value))),
  );
}
