"use strict";
// What experiments say is only ever set as text, never as markup.
(() => {
  const find = (id) => document.getElementById(id);
  const details = JSON.parse(find("data").textContent);
  const places = new Map(details.map((detail, place) => [detail.number, place]));
  const rows = [...document.querySelectorAll("#table tbody tr[id]")];

  // The table: sorted by its heads, filtered by the form.

  const value = (row, column, kind) => {
    const text = row.cells[column].textContent.replace("−", "-");
    if (kind === "text") return text.toLowerCase();
    const number = parseFloat(text);
    return Number.isNaN(number) ? null : number;
  };

  const sort = (head) => {
    const column = head.cellIndex, kind = head.dataset.sort;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sorted = rows.map((row) => [value(row, column, kind), row]);
    sorted.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // without a number: last
      return (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
    });
    find("table").tBodies[0].append(...sorted.map(([, row]) => row));
  };

  for (const head of document.querySelectorAll("#table th[data-sort]")) {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(head));
  }

  const filters = document.querySelector(".filters");
  const filter = () => {
    const words = find("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const status = find("status").value, family = find("family")?.value ?? "";
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !(words.every((word) => text.includes(word)) && (!status || row.classList.contains(status))
        && (!family || row.dataset.family === family));
      shown += !row.hidden;
    }
    find("count").textContent = shown === rows.length ? "" : `${shown} of ${rows.length}`;
  };
  filters.hidden = rows.length === 0;
  filters.addEventListener("input", filter);
  filters.addEventListener("submit", (event) => event.preventDefault());
  find("table").addEventListener("click", (event) => {
    const row = event.target.closest("tr[id]");
    if (row && !event.target.closest("a") && !String(getSelection())) location.hash = row.id;
  });

  // One experiment, opened by its number in the address: #12.

  const view = find("view");
  const fill = (id, text, title) => {
    find(id).textContent = text;
    find(id).hidden = !text;
    if (title) find(title).hidden = !text;
  };

  const showDiff = (text) => {
    fill("view-diff", text, "diff-title");
    const kinds = { "+": "add", "-": "cut", "@": "place" };
    let head = true; // the lines before the first place name files
    const lines = text.replace(/\n$/, "").split("\n").map((line) => {
      const shown = document.createElement("span");
      head = head && line[0] !== "@";
      shown.className = head ? "place" : kinds[line[0]] ?? "";
      shown.textContent = line || " ";
      return shown;
    });
    if (text) find("view-diff").replaceChildren(...lines);
  };

  const open = () => {
    const place = places.get(parseInt(location.hash.slice(1), 10));
    if (place === undefined) return view.open && view.close();
    const detail = details[place];
    find("view-title").textContent = `#${detail.number} ${detail.title}`;
    find("view-value").textContent = [detail.value, detail.status].filter(Boolean).join(", ");
    fill("view-rationale", detail.rationale);
    find("view-facts").replaceChildren(...detail.facts.map(([name, text]) => {
      const pair = document.createElement("div");
      for (const [tag, content] of [["dt", name], ["dd", text]]) {
        pair.append(Object.assign(document.createElement(tag), { textContent: content }));
      }
      return pair;
    }));
    showDiff(detail.diff);
    fill("view-log", detail.log, "log-title");
    find("previous").disabled = place === 0;
    find("next").disabled = place === details.length - 1;
    if (!view.open) view.showModal();
    view.scrollTop = 0;
  };

  const step = (by) => {
    const place = places.get(parseInt(location.hash.slice(1), 10)) + by;
    if (details[place]) location.replace(`#${details[place].number}`);
  };
  find("previous").addEventListener("click", () => step(-1));
  find("next").addEventListener("click", () => step(1));
  find("close").addEventListener("click", () => view.close());
  view.addEventListener("click", (event) => event.target === view && view.close());
  view.addEventListener("keydown", (event) => {
    if (event.target.tagName === "PRE") return; // the arrows scroll it
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  view.addEventListener("close", () => history.replaceState(null, "", location.pathname + location.search));
  addEventListener("hashchange", open);
  open();

  // What a mark of the chart is, while it is pointed at.

  const tip = find("tip");
  const point = (event) => {
    const mark = event.target.closest?.("[data-tip]");
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.dataset.tip;
    const box = mark.getBoundingClientRect();
    const left = box.x + box.width / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(8, Math.min(left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${box.y > tip.offsetHeight + 12 ? box.y - tip.offsetHeight - 8 : box.bottom + 8}px`;
  };
  for (const kind of ["pointerover", "focusin", "scroll"]) document.addEventListener(kind, point, { passive: true });
})();
