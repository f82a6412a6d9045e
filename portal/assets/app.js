// What the portal does in the browser beside htmx: nothing that a page needs.
"use strict";

// The menu of narrow windows opens by keyboard too, and closes by Escape.
const menu = document.getElementById("menu");
const opener = document.querySelector("label.menu");
if (menu && opener) {
  opener.tabIndex = 0;
  opener.setAttribute("role", "button");
  opener.setAttribute("aria-expanded", "false");
  const set = open => { menu.checked = open; opener.setAttribute("aria-expanded", String(open)); };
  menu.addEventListener("change", () => set(menu.checked));
  opener.addEventListener("keydown", e => {
    if (e.key === "Enter" || e.key === " ") { e.preventDefault(); set(!menu.checked); }
  });
  document.addEventListener("keydown", e => { if (e.key === "Escape" && menu.checked) { set(false); opener.focus(); } });
}

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
