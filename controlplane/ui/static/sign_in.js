// The cookie is not sent along when another site's link leads here; asked from here, it is. Then there is nothing to sign in to.
"use strict";

(async () => {
  if (document.querySelector(".refusal")) return;
  const answer = await fetch("/ui/control-plane/signed-in", { redirect: "manual" }).catch(() => null);
  if (answer && answer.status === 204) location.replace(document.querySelector("[name=to]").value);
})();
