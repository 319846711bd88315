// The instance's numbers: tiles, charts, stages, cache, model, partitions, errors.
import { LineChart } from "./charts.js";
import * as metrics from "./metrics.js";
import { bytes, clock, count, node, percent, rate, seconds, showFacts } from "./text.js";

const STAGES = ["decode", "load", "attention", "rank", "encode", "publish", "commit"];
const RATE_S = 5; // windows over which rates and latencies are taken
const LATENCY_S = 10;
const CACHE_S = 60;
const LISTS_S = 120; // as long as scrapes are kept: a rate of few events is noise

const at = (id) => document.getElementById(id);

export class Overview {
  constructor() {
    this.scrapes = new metrics.Scrapes(120);
    this.throughput = new LineChart("throughput", ["events", "recommendations"], rate, 10);
    this.latency = new LineChart("latency", ["p50", "p99"], seconds, 0.1);
    this.lag = new LineChart("lag", ["records"], count, 4);
    const repaint = () => [this.throughput, this.latency, this.lag].forEach((chart) => chart.paint());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
    this.openReasons = new Set();
  }

  // `time` in seconds. Returns whether the process is another one than before.
  show(time, text, status) {
    const restarted = this.scrapes.add(time, metrics.parse(text));
    const s = this.scrapes;
    const now = (name, labels) => metrics.total(s.last, name, labels);
    const latencies = s.quantiles("freshet_event_latency_seconds", LATENCY_S, [0.5, 0.95, 0.99]) ?? [];
    this.showTiles(status, s, now, latencies);
    this.throughput.add(time, [s.rate("freshet_events_total", RATE_S), s.rate("freshet_recommendations_total", RATE_S)]);
    this.latency.add(time, [latencies[0], latencies[2]]);
    this.lag.add(time, [status.lag]);
    this.showStages(s);
    this.showFacts(status, s, now);
    this.showPartitions(status);
    this.showErrors(s, now);
    return restarted;
  }

  // No answer: a gap in the lines.
  miss(time) {
    for (const chart of [this.throughput, this.latency, this.lag]) chart.add(time, []);
  }

  showTiles(status, s, now, [p50, p95, p99]) {
    const letters = now("freshet_dead_letters_total") ?? 0;
    const newLetters = s.growth("freshet_dead_letters_total", CACHE_S) ?? 0;
    const lagSeconds = now("freshet_consumer_lag_seconds");
    const tiles = [
      ["Events per second", rate(s.rate("freshet_events_total", RATE_S)), `${count(now("freshet_events_total"))} since the start`],
      ["Latency, median", seconds(p50), `p95 ${seconds(p95)} · p99 ${seconds(p99)}`],
      ["Lag", count(status.lag), lagSeconds ? `${seconds(lagSeconds)} behind` : "up to date", status.lag > 0 && lagSeconds > 60 ? "warn" : ""],
      ["Hot cache hits", percent(hitRate(s)), `${count(now("freshet_hot_cache_users"))} users held`],
      ["Dead letters", count(letters), `${count(newLetters)} in the last minute`, newLetters > 0 ? "bad" : ""],
    ];
    at("tiles").replaceChildren(
      ...tiles.map(([name, value, more, tone]) =>
        node("div", { class: "card", "data-tone": tone || undefined },
          node("dt", {}, name), node("dd", { class: "value" }, value), node("dd", { class: "more" }, more)),
      ),
    );
  }

  showStages(s) {
    const means = STAGES.map((stage) => {
      const events = s.growth("freshet_stage_events_total", LATENCY_S, { stage });
      return events > 0 ? s.growth("freshet_stage_seconds_sum", LATENCY_S, { stage }) / events : undefined;
    });
    const most = Math.max(...means.map((mean) => mean ?? 0));
    at("stages").replaceChildren(
      ...STAGES.map((stage, i) => {
        const bar = node("span", { class: "bar" });
        bar.style.width = most > 0 ? `${(100 * (means[i] ?? 0)) / most}%` : "0";
        return node("tr", {}, node("th", { scope: "row" }, stage), node("td", {}, bar), node("td", { class: "number" }, seconds(means[i])));
      }),
    );
  }

  showFacts(status, s, now) {
    const lookups = (s.growth("freshet_hot_cache_hits_total", CACHE_S) ?? 0) + (s.growth("freshet_hot_cache_misses_total", CACHE_S) ?? 0);
    showFacts(at("cache-facts"), {
      "Users in memory": count(now("freshet_hot_cache_users")),
      "Their memory": bytes(now("freshet_hot_cache_bytes")),
      "Hits in the last minute": `${percent(hitRate(s))} of ${count(lookups)}`,
      "Read from RocksDB": count(now("freshet_hot_cache_misses_total")),
      "Made room for others": count(now("freshet_hot_cache_evictions_total")),
      "Restored from snapshots": `${count(now("freshet_restored_records_total"))} records`,
      "Still to be restored": percent(now("freshet_restore_remaining_ratio")),
      "Newest snapshot mark": now("freshet_snapshot_watermark_age_seconds") ? `${seconds(now("freshet_snapshot_watermark_age_seconds"))} ago` : "nothing is lacking",
    });
    showFacts(at("disk-facts"), {
      "State in tables": bytes(now("freshet_rocksdb_table_bytes")),
      "In memory, in no table yet": bytes(now("freshet_rocksdb_memtable_bytes")),
      "Block cache": bytes(now("freshet_rocksdb_block_cache_bytes")),
      "Due to be compacted": bytes(now("freshet_rocksdb_pending_compaction_bytes")),
      "Partitions slowed down": count(now("freshet_rocksdb_stalled_partitions")),
      "Commits waited for it": seconds(now("freshet_rocksdb_stall_seconds_total")),
    });
    const [median, slow] = s.quantiles("freshet_commit_seconds", LATENCY_S, [0.5, 0.99]) ?? [];
    const part = (name) => percent(s.rate("freshet_commit_part_seconds_total", LATENCY_S, { part: name }));
    showFacts(at("commit-facts"), {
      "A commit takes": `${seconds(median)}, p99 ${seconds(slow)}`,
      "Spent on outputs": part("outputs"),
      "Spent on state": part("state"),
      "Spent on positions": part("positions"),
      "Came to nothing": count(now("freshet_transaction_aborts_total")),
      Rebalances: count(now("freshet_rebalances_total")),
    });
    const swapped = now("freshet_model_last_swap_timestamp_seconds");
    const since = swapped || now("process_start_time_seconds");
    showFacts(at("model-facts"), {
      Name: status.model.name,
      Version: status.model.version,
      "Serving for": seconds(Math.max(0, Date.now() / 1000 - since)),
      "Models taken up": count(now("freshet_model_swaps_total")),
      "Models refused": count(now("freshet_model_refusals_total")),
      "Items clicked in the list before": hitsOfLists(s),
      "Events of unknown items": percent(share(now("freshet_unknown_items_total"), now("freshet_events_total"))),
    });
    const cpu = s.rate("process_cpu_seconds_total", LATENCY_S);
    showFacts(at("process-facts"), {
      Up: seconds(status.uptime_seconds),
      CPU: cpu === undefined ? "–" : `${cpu.toFixed(2)} cores`,
      Memory: bytes(now("process_resident_memory_bytes")),
    });
  }

  showPartitions(status) {
    at("partitions").replaceChildren(
      ...status.partitions.map((p) =>
        node("tr", {}, node("td", {}, p.topic), node("td", { class: "number" }, String(p.partition)), node("td", { class: "number" }, count(p.lag))),
      ),
    );
    const restoring = status.restoring_partitions ? `, ${status.restoring_partitions} being restored` : "";
    at("partitions-note").textContent = `${status.assigned_partitions} assigned to this instance${restoring}.`;
  }

  showErrors(s, now) {
    const failed = (s.last.get("freshet_http_responses_total") ?? []).filter(({ labels }) => labels.status >= "500");
    showFacts(at("error-facts"), {
      "Transactions that came to nothing": count(now("freshet_transaction_aborts_total")),
      "Duplicates dropped": count(now("freshet_duplicates_total")),
      "HTTP answers 5xx": count(failed.reduce((sum, series) => sum + series.value, 0)),
    });
  }

  // Reasons with their counts and samples; what is open stays open.
  showLetters(samples) {
    const counts = (this.scrapes.last?.get("freshet_dead_letters_total") ?? []).map((s) => [s.labels.reason, s.value]);
    const shape = JSON.stringify([counts, samples]);
    if (shape === this.letters) return;
    this.letters = shape;
    const focused = document.activeElement?.closest?.("details")?.dataset.reason;
    const reasons = counts.sort((a, b) => b[1] - a[1]).map(([reason, total]) => this.reason(reason, total, samples));
    at("letters").replaceChildren(...(reasons.length ? reasons : [node("p", { class: "muted" }, "No dead letters.")]));
    if (focused) at("letters").querySelector(`details[data-reason="${CSS.escape(focused)}"] summary`)?.focus();
  }

  reason(reason, total, samples) {
    const own = samples.filter((sample) => sample.reason === reason);
    const details = node("details", { "data-reason": reason },
      node("summary", {}, node("b", {}, count(total)), ` ${reason}`),
      ...(own.length ? own.map(sample) : [node("p", { class: "sample muted" }, "No sample is kept.")]));
    details.open = this.openReasons.has(reason);
    details.addEventListener("toggle", () => this.openReasons[details.open ? "add" : "delete"](reason));
    return details;
  }
}

function sample(letter) {
  const where = `${letter.topic}, partition ${letter.partition}, offset ${letter.offset}, ${clock(new Date(letter.read_at))}`;
  return node("div", { class: "sample" },
    node("div", {}, letter.message),
    node("div", { class: "muted" }, where),
    node("pre", {}, letter.value + (letter.cut ? " …" : "")));
}

function share(part, whole) {
  return whole > 0 ? part / whole : undefined;
}

function hitRate(s) {
  const hits = s.growth("freshet_hot_cache_hits_total", CACHE_S);
  return share(hits, hits + s.growth("freshet_hot_cache_misses_total", CACHE_S));
}

// Of the events that came to a user with a list: those whose item was in it.
function hitsOfLists(s) {
  const lists = s.growth("freshet_lists_total", LISTS_S);
  return `${percent(share(s.growth("freshet_list_hits_total", LISTS_S), lists))} of ${count(lists)}`;
}
