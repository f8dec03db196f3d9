// What people do: typing, choosing, dropping, pasting, keys.

const at = (id) => document.getElementById(id);
const ARROWS = { ArrowLeft: () => -1, ArrowRight: () => 1, ArrowUp: (wide) => -wide, ArrowDown: (wide) => wide };

/**
 * Starts to listen.
 *
 * page: {submit: asks what the form says, search: with an image file, drop: takes away the image or pair that is asked,
 * unlock: takes the key, again: begins anew, run: asks what the address says}.
 */
export function listen(page) {
  onForms(page);
  onFiles(page);
  onDragging(page);
  document.addEventListener("keydown", onKey);
  addEventListener("hashchange", () => void page.run());
}

function onForms(page) {
  const submits = (id, act) =>
    at(id).addEventListener("submit", (event) => {
      event.preventDefault();
      act();
    });
  submits("ask", page.submit);
  submits("unlock", page.unlock);
  at("again").addEventListener("click", () => void page.again());
  at("unchip").addEventListener("click", () => {
    page.drop();
    at("text").focus();
  });
  for (const id of ["find", "k", "rescore"]) {
    at(id).addEventListener("change", () => {
      if (at("ask").reportValidity()) page.submit();
    });
  }
}

function onFiles(page) {
  at("choose").addEventListener("click", () => at("file").click());
  at("file").addEventListener("change", () => {
    const [file] = at("file").files;
    if (file) void page.search(file);
    at("file").value = ""; // the same file chosen again is a change, too
  });
  document.addEventListener("paste", (event) => {
    const file = imageOf(event.clipboardData);
    if (!file) return;
    event.preventDefault();
    void page.search(file);
  });
}

function onDragging(page) {
  const holdsFile = (event) => event.dataTransfer?.types.includes("Files");
  const dragging = (is) => {
    at("drop").hidden = !is;
  };
  document.addEventListener("dragover", (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    dragging(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) dragging(false);
  });
  document.addEventListener("drop", (event) => {
    dragging(false);
    if (!holdsFile(event)) return;
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) void page.search(file);
  });
}

function imageOf(transfer) {
  return [...(transfer?.files ?? [])].find((file) => file.type.startsWith("image/"));
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.closest?.("input, select, textarea");
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    at("text").focus();
    at("text").select();
  }
  const card = event.target.closest?.(".card");
  if (card && event.key in ARROWS) step(event, card);
}

/** Moves between cards, as many in a row as the window has room for. */
function step(event, card) {
  const cards = [...document.querySelectorAll(".card")];
  const { top } = cards[0].getBoundingClientRect();
  const wide = cards.filter((other) => Math.abs(other.getBoundingClientRect().top - top) < 2).length;
  const next = cards[cards.indexOf(card) + ARROWS[event.key](wide)];
  if (!next) return;
  event.preventDefault();
  next.querySelector(".more").focus();
}
