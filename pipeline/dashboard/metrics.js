// What /metrics says, and what it means over a window of time. Pure: no page, no network.

// Prometheus' text format 0.0.4 -> Map of name -> [{labels, value}].
export function parse(text) {
  const families = new Map();
  for (const line of text.split("\n")) {
    const match = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match) continue;
    const labels = {};
    for (const [, name, value] of (match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      labels[name] = value.replace(/\\(.)/g, (_, c) => (c === "n" ? "\n" : c));
    }
    if (!families.has(match[1])) families.set(match[1], []);
    families.get(match[1]).push({ labels, value: match[3] === "+Inf" ? Infinity : Number(match[3]) });
  }
  return families;
}

const has = (labels, wanted) => Object.entries(wanted).every(([name, value]) => labels[name] === value);

// The sum of a family's series with these labels; undefined where there is none.
export function total(families, name, wanted = {}) {
  const series = (families.get(name) ?? []).filter((s) => has(s.labels, wanted));
  return series.length ? series.reduce((sum, s) => sum + s.value, 0) : undefined;
}

// The scrapes of the last minutes, and what changed between two of them.
export class Scrapes {
  constructor(keepSeconds) {
    this.keepSeconds = keepSeconds;
    this.all = []; // {time (seconds), families}, oldest first
  }

  // True where this process is another than that of the scrape before: what was counted before means nothing now.
  add(time, families) {
    const start = (f) => total(f, "process_start_time_seconds");
    const restarted = this.all.length > 0 && start(this.all.at(-1).families) !== start(families);
    if (restarted) this.all = [];
    this.all.push({ time, families });
    while (this.all[0].time < time - this.keepSeconds) this.all.shift();
    return restarted;
  }

  get last() {
    return this.all.at(-1)?.families;
  }

  // The newest scrape and the one that is `seconds` older, or nearly so; nothing before there are two.
  ends(seconds) {
    const last = this.all.at(-1);
    const first = this.all.find((s) => s.time >= last.time - seconds - 0.5);
    return first && first !== last ? { first, last } : undefined;
  }

  // How much a counter grew in the last `seconds`.
  growth(name, seconds, wanted = {}) {
    const ends = this.ends(seconds);
    if (!ends) return undefined;
    const after = total(ends.last.families, name, wanted);
    return after === undefined ? undefined : after - (total(ends.first.families, name, wanted) ?? 0);
  }

  rate(name, seconds, wanted = {}) {
    const ends = this.ends(seconds);
    const growth = this.growth(name, seconds, wanted);
    return growth === undefined ? undefined : growth / (ends.last.time - ends.first.time);
  }

  // Quantiles of what a histogram saw in the last `seconds`, linear within a bucket as Prometheus' histogram_quantile();
  // Infinity beyond the last bound. Nothing where it saw nothing.
  quantiles(name, seconds, quantiles) {
    const ends = this.ends(seconds);
    if (!ends) return undefined;
    const before = new Map((ends.first.families.get(`${name}_bucket`) ?? []).map((s) => [s.labels.le, s.value]));
    const buckets = (ends.last.families.get(`${name}_bucket`) ?? [])
      .map((s) => ({
        bound: s.labels.le === "+Inf" ? Infinity : Number(s.labels.le),
        count: s.value - (before.get(s.labels.le) ?? 0),
      }))
      .sort((a, b) => a.bound - b.bound);
    const count = buckets.at(-1)?.count ?? 0;
    if (count <= 0) return undefined;
    return quantiles.map((quantile) => {
      const rank = quantile * count;
      const at = buckets.findIndex((bucket) => bucket.count >= rank);
      const { bound, count: reached } = buckets[at];
      if (bound === Infinity) return Infinity;
      const low = at > 0 ? buckets[at - 1] : { bound: 0, count: 0 };
      return low.bound + ((bound - low.bound) * (rank - low.count)) / (reached - low.count);
    });
  }
}
