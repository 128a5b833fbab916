// Sends the body to Envoy as any client would, with the page's cookie, and shows what came back. All of it is text.
"use strict";

(() => {
  const form = document.getElementById("query");
  if (!form) return;
  const by = (id) => document.getElementById(id);
  const target = by("target"), body = by("body");
  let offered = body.value;

  target.addEventListener("change", () => {
    const example = target.selectedOptions[0].dataset.example;
    if (example && body.value === offered) { body.value = offered = example; }
  });
  body.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });

  // server-timing: parse;dur=0.1, queue;dur=0.0, … and what is left of the time is on the way.
  function phases(header, took) {
    const box = by("phases");
    box.textContent = "";
    const found = (header || "").split(",").map((each) => each.trim().match(/^(\w+);dur=([\d.]+)$/)).filter(Boolean)
      .map(([, name, duration]) => [name, Number(duration)]);
    if (!found.length) return;
    const inside = found.reduce((sum, [, duration]) => sum + duration, 0);
    found.push(["on the way", Math.max(0, took - inside)]);
    const total = Math.max(took, inside), svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "bar tall");
    svg.setAttribute("width", "100%");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", "Where the time went");
    const list = document.createElement("ul");
    list.className = "legend";
    let at = 0;
    found.forEach(([name, duration], index) => {
      const part = document.createElementNS(svg.namespaceURI, "rect");
      part.setAttribute("class", `s${index % 8}`);
      part.setAttribute("x", `${(100 * at) / total}%`);
      part.setAttribute("width", `${(100 * duration) / total}%`);
      part.setAttribute("height", "100%");
      svg.append(part);
      at += duration;
      const item = document.createElement("li"), key = document.createElement("span");
      key.className = `key s${index % 8}`;
      item.append(key, `${name} ${duration.toFixed(duration < 10 ? 2 : 0)} ms`);
      list.append(item);
    });
    const rows = document.createElement("div");
    rows.className = "phases";
    rows.append(svg, list);
    box.append(rows);
  }

  // Over several lines, with every number as it was written: read and written anew, 1.0 would be 1 and large ones others.
  function indented(text) {
    try { JSON.parse(text); } catch { return text; }
    let depth = 0, out = "";
    const line = () => `\n${"  ".repeat(depth)}`;
    for (const token of text.match(/"(?:\\.|[^"\\])*"|[[\]{},:]|[^\s[\]{},:"]+/g) || []) {
      if (token === "{" || token === "[") { depth += 1; out += token + line(); }
      else if (token === "}" || token === "]") { depth -= 1; out = /[[{]\s*$/.test(out) ? out.trimEnd() + token : out + line() + token; }
      else out += token === "," ? token + line() : token === ":" ? ": " : token;
    }
    return out;
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button"), model = target.value;
    const path = `/serving-endpoints/${form.dataset.endpoint}${model ? `/served-models/${model}` : ""}/invocations`;
    button.disabled = true;
    const began = performance.now();
    try {
      const answer = await fetch(path, { method: "POST", body: body.value, headers: { "content-type": "application/json", "x-wye-page": "1" } });
      const text = await answer.text(), took = performance.now() - began;
      by("status").textContent = `${answer.status} ${answer.statusText}`.trim();
      by("by").textContent = answer.headers.get("served-model-name") || "–";
      by("took").textContent = `${took.toFixed(1)} ms`;
      phases(answer.headers.get("server-timing"), took);
      by("text").textContent = indented(text);
    } catch (error) {
      by("status").textContent = "no answer";
      by("by").textContent = by("took").textContent = "–";
      by("phases").textContent = "";
      by("text").textContent = String(error);
    } finally {
      button.disabled = false;
      by("waiting").hidden = true;
      by("answer").hidden = false;
    }
  });
})();
