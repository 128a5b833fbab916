// The load of an endpoint's served models, drawn by uPlot from what the control plane remembers.
"use strict";

(() => {
  const box = document.querySelector("[data-load]");
  if (!box) return;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const charts = new Map();
  let names = "";

  const number = (value) => (value === null || value === undefined ? "" : value >= 100 ? value.toFixed(0) : String(+value.toPrecision(2)));

  function make(div, what, models) {
    const axis = { stroke: colour("--quiet"), font: "11px system-ui, sans-serif", grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    return new uPlot({
      width: div.clientWidth, height: 150,
      padding: [8, 8, 0, 0],
      cursor: { y: false, sync: { key: "load" }, drag: { setScale: false } },
      legend: { show: false },
      scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.15 : 1] } },
      axes: [
        { ...axis, grid: { show: false }, space: 60, values: "{HH}:{mm}" },
        { ...axis, size: 44, values: (_, ticks) => ticks.map(number) },
      ],
      series: [{}, ...models.map((name, index) => ({
        label: name, stroke: colour(`--s${index % 8}`), width: 1.5, points: { show: what === "p50" || what === "p99" || what === "errors" ? undefined : false, size: 4 },
        spanGaps: what !== "rate",
      }))],
    }, [[], ...models.map(() => [])], div);
  }

  function show(data) {
    const models = data.series.map((each) => each.name);
    if (names !== models.join("\n")) {
      names = models.join("\n");
      for (const div of box.querySelectorAll(".chart")) {
        charts.get(div)?.destroy();
        charts.set(div, make(div, div.dataset.what, models));
      }
    }
    for (const [div, chart] of charts) {
      const what = div.dataset.what;
      chart.setData([data.times, ...data.series.map((each) => each[what])]);
      const now = data.series.map((each) => {
        const value = each[what].findLast((one) => one !== null);
        return `${each.name} ${value === undefined ? "unknown" : number(value)}`;
      });
      div.setAttribute("aria-label", `${div.dataset.title ||= div.getAttribute("aria-label")}. Now: ${now.join(", ")}.`);
    }
  }

  async function load() {
    if (!document.hidden) {
      try {
        const answer = await fetch(box.dataset.load);
        if (answer.ok && answer.headers.get("content-type").startsWith("application/json")) show(await answer.json());
      } catch { /* the live part of the page says that the control plane is away */ }
    }
    setTimeout(load, 5000);
  }

  new ResizeObserver(() => charts.forEach((chart, div) => chart.setSize({ width: div.clientWidth, height: 150 }))).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { names = ""; });
  load();
})();
