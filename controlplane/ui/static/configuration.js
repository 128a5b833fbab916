// Weights that always add up to 100, and rows that come and go.
"use strict";

(() => {
  const form = document.getElementById("configuration");
  if (!form) return;
  const rows = () => [...form.querySelectorAll("[data-row]")];
  const field = (row) => row.querySelector("[data-percent]");
  const value = (row) => Math.min(100, Math.max(0, Number.parseInt(field(row).value, 10) || 0));

  function set(row, percent) {
    field(row).value = percent;
    row.querySelector("[data-slider]").value = percent;
  }

  // The other rows share what is left in the proportion they had, to whole per cents.
  function share(fixed, rest) {
    const others = rows().filter((row) => row !== fixed);
    if (!others.length) { if (fixed) set(fixed, 100); return; }
    const total = others.reduce((sum, row) => sum + value(row), 0);
    const exact = others.map((row) => (total ? (value(row) * rest) / total : rest / others.length));
    const whole = exact.map(Math.floor);
    let left = rest - whole.reduce((sum, each) => sum + each, 0);
    for (const index of exact.map((each, i) => i).sort((a, b) => exact[b] - whole[b] - (exact[a] - whole[a]))) {
      if (left-- <= 0) break;
      whole[index] += 1;
    }
    others.forEach((row, index) => set(row, whole[index]));
  }

  form.addEventListener("input", (event) => {
    const row = event.target.closest("[data-row]");
    if (event.target.matches("[data-slider]")) {
      const percent = Number(event.target.value);
      set(row, percent);
      share(row, 100 - percent);
    }
  });
  form.addEventListener("change", (event) => {
    if (event.target.matches("[data-percent]")) {
      const row = event.target.closest("[data-row]");
      set(row, value(row));
      share(row, 100 - value(row));
    }
  });
  form.addEventListener("click", (event) => {
    if (!event.target.matches("[data-remove]")) return;
    event.target.closest("[data-row]").remove();
    share(null, 100);
    tidy();
    htmx.trigger(form, "check");
  });

  // A single model has all the traffic, and cannot be removed.
  function tidy() {
    const all = rows();
    for (const row of all) {
      row.querySelector("[data-remove]").hidden = all.length === 1;
      row.querySelector("[data-slider]").disabled = all.length === 1;
    }
  }

  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id === "entities") {
      const row = rows().at(-1);
      if (rows().length === 1) set(row, 100);
      row.querySelector("input:not([type=hidden])").focus();
    }
    tidy();
    if (event.detail.target.matches("select")) htmx.trigger(form, "check");
  });
  tidy();
})();
