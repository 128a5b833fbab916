// What every page does: keeps live parts as they are when nothing changed, says when the control plane is away, copies.
"use strict";

(() => {
  const away = document.getElementById("away");
  const last = new WeakMap();

  const isAway = (gone) => { if (away) away.hidden = !gone; };

  // A page that nobody sees asks for nothing.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.detail.elt.matches("[hx-trigger^=every]")) event.preventDefault();
  });
  // A live part that is the same as before is left alone: no flicker, and nobody loses their place in it.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, target } = event.detail;
    if (xhr.status >= 502 && xhr.status <= 504) { isAway(true); return; }
    isAway(false);
    if (xhr.status >= 400) {
      // What was there is gone, or is no longer ours to see: that is said in its place.
      event.detail.shouldSwap = Boolean(target.id);
      event.detail.swapOverride = "innerHTML";
      return;
    }
    if (!target.id || !target.matches("[hx-trigger^=every]")) return;
    if (last.get(target) === xhr.responseText) event.detail.shouldSwap = false;
    else last.set(target, xhr.responseText);
  });
  // The part that comes in is another element than the one that goes: it takes over what is known of it, what was open
  // in it, and where its logs were scrolled to.
  const kept = new Map();
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, xhr, shouldSwap } = event.detail;
    if (!shouldSwap || !target.id) return;
    kept.set(target.id, {
      text: xhr.responseText,
      closed: [...target.querySelectorAll("details[id]")].map((each) => [each.id, each.open]),
      scrolled: [...target.querySelectorAll("pre")].map((each) => [each.scrollTop, each.scrollTop + each.clientHeight + 4 >= each.scrollHeight]),
    });
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    const id = event.detail.target.id || event.detail.elt.id;
    const state = kept.get(id), part = id && document.getElementById(id);
    if (!state || !part) return;
    last.set(part, state.text);
    for (const [each, open] of state.closed) { const found = document.getElementById(each); if (found) found.open = open; }
    part.querySelectorAll("pre").forEach((pre, index) => {
      const [top, atEnd] = state.scrolled[index] || [0, true];
      pre.scrollTop = atEnd ? pre.scrollHeight : top;
    });
  });
  document.addEventListener("htmx:sendError", () => isAway(true));
  document.addEventListener("htmx:timeout", () => isAway(true));

  for (const pre of document.querySelectorAll("pre.printed, .log pre")) pre.scrollTop = pre.scrollHeight;

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    await navigator.clipboard.writeText(button.parentElement.querySelector("pre").textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
})();
