// What the portal does in the browser beside htmx: nothing that a page needs.
"use strict";

// The menu of narrow windows closes by Escape too.
document.addEventListener("keydown", e => {
  if (e.key !== "Escape" || location.hash !== "#side") return;
  location.hash = "main";
  document.querySelector("a.menu").focus();
});

// A button that copies what it names: data-copy="TEXT".
document.addEventListener("click", async e => {
  const b = e.target.closest("[data-copy]");
  if (!b) return;
  try {
    await navigator.clipboard.writeText(b.dataset.copy);
    const said = b.title;
    b.title = "Copied";
    b.classList.add("copied");
    setTimeout(() => { b.title = said; b.classList.remove("copied"); }, 1500);
  } catch { /* the text is there to be selected */ }
});

// A form is sent once.
document.addEventListener("submit", e => {
  if (e.defaultPrevented) return;
  const b = e.submitter;
  if (b) setTimeout(() => { b.disabled = true; }, 0);
});
addEventListener("pageshow", () => { for (const b of document.querySelectorAll("button:disabled")) if (!b.hasAttribute("data-off")) b.disabled = false; });
