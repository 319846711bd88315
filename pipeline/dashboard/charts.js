// The three charts of the last five minutes, by Chart.js (a classic script, window.Chart), in the page's colours.
import { node } from "./text.js";

const SPAN_S = 300; // shown at most
const SHORT_S = 60; // and at least

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// One chart of one or more lines; `show` writes a value as text, and the axis goes to `least` or beyond.
export class LineChart {
  constructor(id, names, show, least) {
    this.names = names;
    this.show = show;
    this.canvas = document.getElementById(id);
    this.legend = document.getElementById(`${id}-legend`);
    this.chart = new Chart(this.canvas, {
      type: "line",
      data: { datasets: names.map((label) => ({ label, data: [], borderWidth: 1.75, pointRadius: 0, tension: 0.25 })) },
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        normalized: true,
        parsing: false,
        spanGaps: false,
        interaction: { mode: "index", intersect: false },
        scales: {
          x: {
            type: "linear",
            ticks: { maxRotation: 0, callback: (x) => ago(Math.round(this.now - x)) },
            grid: { display: false },
            afterBuildTicks: (axis) => {
              const step = axis.max - axis.min > 150 ? 60 : 20;
              axis.ticks = [];
              for (let x = axis.max; x >= axis.min; x -= step) axis.ticks.unshift({ value: x });
            },
          },
          y: { beginAtZero: true, suggestedMax: least, ticks: { maxTicksLimit: 4, callback: (y) => show(y) } },
        },
        plugins: {
          legend: { display: false },
          tooltip: {
            callbacks: {
              title: (points) => ago(Math.round(this.now - points[0].parsed.x)),
              label: (point) => ` ${point.dataset.label} ${show(point.parsed.y)}`,
            },
          },
        },
      },
    });
    this.paint();
  }

  paint() {
    this.chart.data.datasets.forEach((line, i) => {
      line.borderColor = line.backgroundColor = colour(`--series-${i + 1}`);
    });
    for (const axis of Object.values(this.chart.options.scales)) {
      axis.ticks.color = colour("--muted");
      axis.ticks.font = { size: 11, family: getComputedStyle(document.body).fontFamily };
      axis.grid = { ...axis.grid, color: colour("--line"), drawBorder: false };
    }
    this.chart.update("none");
  }

  // Values at `time` (seconds), one for each line; undefined leaves a gap.
  add(time, values) {
    this.now = time;
    this.chart.data.datasets.forEach((line, i) => {
      const y = Number.isFinite(values[i]) ? values[i] : values[i] === Infinity ? 60 : NaN;
      line.data.push({ x: time, y });
      while (line.data[0].x < time - SPAN_S) line.data.shift();
    });
    const { x } = this.chart.options.scales;
    x.min = Math.max(time - SPAN_S, Math.min(this.chart.data.datasets[0].data[0].x, time - SHORT_S));
    x.max = time;
    this.chart.update("none");
    const texts = this.names.map((name, i) => `${name} ${this.show(values[i])}`);
    this.legend.replaceChildren(
      ...texts.map((text, i) => {
        const entry = node("span", {}, text);
        entry.style.setProperty("--series", `var(--series-${i + 1})`);
        return entry;
      }),
    );
    this.canvas.setAttribute("aria-label", `${this.title}: now ${texts.join(", ")}. The last five minutes as lines.`);
  }

  get title() {
    return this.canvas.closest("figure").querySelector("h3").textContent;
  }
}

function ago(secondsAgo) {
  if (secondsAgo <= 0) return "now";
  return secondsAgo % 60 ? `−${secondsAgo} s` : `−${secondsAgo / 60} min`;
}
