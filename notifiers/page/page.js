"use strict";
// What experiments say is only ever set as text, never as markup.
(() => {
  const find = (id) => document.getElementById(id);
  const data = JSON.parse(find("data").textContent), details = data.experiments;
  const places = new Map(details.map((detail, place) => [detail.number, place]));
  const rows = [...document.querySelectorAll("#table tbody tr[id]")];
  for (const row of rows) { // an address such as #12 opens the experiment, and scrolls nowhere
    row.dataset.number = row.id;
    row.removeAttribute("id");
  }
  const add = (parent, name, attributes = {}, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.textContent = text;
    parent.append(made);
    return made;
  };

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

  addEventListener("beforeprint", () => find("all").setAttribute("open", "")); // paper has nothing to unfold

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
    const row = event.target.closest("tr[data-number]");
    if (row && !event.target.closest("a") && !String(getSelection())) location.hash = row.dataset.number;
  });

  // One experiment, opened by its number in the address: #12, or beside another one: #12-7.

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

  const asked = () => {
    const [number, other] = location.hash.slice(1).split("-").map((text) => places.get(parseInt(text, 10)));
    return [number, other === number ? undefined : other];
  };

  const showCurve = (detail, other) => {
    const figure = find("view-curve"), [caption, svg] = figure.children;
    const shown = [["own", detail, ""], ["other", other, other?.number === detail.before ? ", the best before" : ""]]
      .filter(([, each]) => each?.curve.length > 1);
    figure.hidden = !detail.curve.length;
    if (figure.hidden) return;
    caption.replaceChildren("Training loss: ", ...shown.flatMap(([kind, each, note], place) => [
      place ? ", " : "",
      Object.assign(document.createElement("span"), {
        className: kind, textContent: `#${each.number}${note} ${each.curve.at(-1)[1].toPrecision(5)}`,
      }),
    ]));
    const late = shown.flatMap(([, each]) => each.curve.slice(Math.floor(each.curve.length / 8)));
    const low = Math.min(...late.map(([, loss]) => loss)), high = Math.max(...late.map(([, loss]) => loss));
    const x = (share) => 64 + 4.86 * Math.min(100, Math.max(0, share));
    const y = (loss) => 170 - 155 * Math.min(1, Math.max(0, (loss - low) / (high - low || 1)));
    svg.replaceChildren();
    for (const [kind, each] of shown.reverse()) {
      const start = each.curve.findIndex(([, loss]) => loss <= high); // what it fell from would flatten the rest
      const d = each.curve.slice(start).map(([share, loss]) => `${x(share).toFixed(1)} ${y(loss).toFixed(1)}`).join("L");
      add(svg, "path", { d: `M${d}`, class: kind });
    }
    for (const loss of [low, high]) {
      add(svg, "text", { x: 56, y: y(loss) + 4, "text-anchor": "end" }, loss.toPrecision(4));
    }
    for (const share of [0, 50, 100]) {
      add(svg, "text", { x: x(share), y: 192, "text-anchor": share === 100 ? "end" : "middle" }, `${share} %`);
    }
  };

  const cell = (name, text, href) => {
    const made = document.createElement(name);
    made.append(href ? Object.assign(document.createElement("a"), { href, textContent: text }) : text);
    return made;
  };

  const showBoth = (detail, other) => {
    const table = find("view-both");
    table.hidden = !other;
    find("view-facts").hidden = Boolean(other);
    if (!other) return;
    const facts = [detail, other].map((each) => new Map([
      ["description", each.title], [data.metric, each.value], ["status", each.status], ...each.facts,
    ]));
    const constants = [detail, other].map((each) => ({ ...data.base, ...each.constants }));
    const lines = [...new Set([...facts[0].keys(), ...facts[1].keys()])]
      .map((name) => [name, facts[0].get(name) ?? "", facts[1].get(name) ?? ""]);
    for (const name of Object.keys(data.base)) {
      if (constants[0][name] !== constants[1][name]) lines.push([name, constants[0][name], constants[1][name]]);
    }
    const head = document.createElement("tr");
    head.append(cell("th", ""), ...[detail, other].map(({ number }) => cell("th", `#${number}`, `#${number}`)));
    table.replaceChildren(head, ...lines.map(([name, ...texts]) => {
      const row = document.createElement("tr");
      row.append(cell("th", name), ...texts.map((text) => cell("td", text)));
      return row;
    }));
  };

  let pushed = false; // the address of the page itself is one step back
  const open = () => {
    const [place, against] = asked();
    if (place === undefined) return view.open && view.close();
    const detail = details[place], other = details[against];
    find("view-title").textContent = `#${detail.number} ${detail.title}`;
    find("view-value").textContent = [detail.value, detail.status].filter(Boolean).join(", ");
    fill("view-rationale", detail.rationale);
    find("view-facts").replaceChildren(...detail.facts.map(([name, text]) => {
      const pair = document.createElement("div");
      pair.append(cell("dt", name), cell("dd", text));
      return pair;
    }));
    showCurve(detail, other ?? details[places.get(detail.before)]);
    showBoth(detail, other);
    find("other").value = other ? other.number : "";
    showDiff(detail.diff);
    fill("view-log", detail.log, "log-title");
    find("previous").disabled = place === 0;
    find("next").disabled = place === details.length - 1;
    if (!view.open) view.showModal();
    view.scrollTop = 0;
  };

  const step = (by) => {
    const next = details[asked()[0] + by];
    if (next) location.replace(`#${next.number}`);
  };
  find("previous").addEventListener("click", () => step(-1));
  find("next").addEventListener("click", () => step(1));
  find("close").addEventListener("click", () => view.close());
  find("compare").addEventListener("submit", (event) => event.preventDefault());
  find("other").addEventListener("change", ({ target }) => {
    const { number } = details[asked()[0]];
    location.replace(places.has(parseInt(target.value, 10)) ? `#${number}-${parseInt(target.value, 10)}` : `#${number}`);
  });
  find("view-both").addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (!link) return;
    event.preventDefault(); // it takes the place of this one, so that closing still leads back
    location.replace(link.hash);
  });
  view.addEventListener("click", (event) => event.target === view && view.close());
  view.addEventListener("keydown", (event) => {
    if (["PRE", "INPUT"].includes(event.target.tagName)) return; // the arrows are its own
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  view.addEventListener("close", () => {
    if (!location.hash) return;
    if (pushed) history.back(); // to the place that the page was at
    else history.replaceState(null, "", location.pathname + location.search);
  });
  addEventListener("hashchange", (event) => {
    if (!view.open) pushed = !new URL(event.oldURL).hash;
    open();
  });
  open();

  // The chart: a window of its width, by number or by time, the height as what is in it needs.

  const ticks = (low, high, most, finest = 0) => {
    const power = 10 ** Math.floor(Math.log10((high - low) / most));
    const size = Math.max(finest, power * [1, 2, 5, 10].find((each) => high - low <= each * power * most));
    const places = Math.max(0, -Math.floor(Math.log10(size) + 1e-9)), found = [];
    for (let count = Math.ceil(low / size - 1e-9); count * size <= high + 1e-9 * size; count += 1) {
      const at = count * size + 0; // no -0
      const digits = { minimumFractionDigits: places, maximumFractionDigits: places };
      found.push([at, places > 8 ? at.toPrecision(3) : at.toLocaleString("en-US", digits)]);
    }
    return found;
  };

  const charts = [...document.querySelectorAll("svg.chart")].map((svg) => ({
    svg,
    plot: JSON.parse(svg.dataset.plot),
    axes: [svg.dataset.axes, svg.dataset.timed].map((text) => text && JSON.parse(text)),
    marks: [...svg.querySelectorAll(".mark")].map((mark) => {
      const [x, y] = mark.getAttribute("transform").match(/[\d.]+/g).map(Number);
      return { mark, number: Number(mark.hash ?? mark.getAttribute("href").slice(1)), x: [x, Number(mark.dataset.t ?? x)], y };
    }),
    lines: [...svg.querySelectorAll(".lines path")].map((path) => ({ path, d: [path.getAttribute("d"), path.dataset.t] })),
  }));
  const seen = { from: 0, to: 1, time: 0 };

  const draw = ({ svg, plot: [left, right, top, bottom], axes, marks, lines }) => {
    const { last, whole, heights: [lowest, highest, least, most], bend: [bend, factor, above] } = axes[seen.time];
    const width = right - left, x0 = left + seen.from * width, kx = 1 / (seen.to - seen.from);
    const inside = marks.filter(({ x }) => x[seen.time] >= x0 - 1 && x[seen.time] <= x0 + width / kx + 1);
    const fits = inside.filter(({ mark }) => mark.matches(".keep, .discard, .quarantine")).map(({ y }) => y);
    const best = marks.filter(({ mark, x }) => mark.matches(".keep") && x[seen.time] < x0).map(({ number, y }) => [number, y]);
    if (best.length) fits.push(best.sort(([a], [b]) => b - a)[0][1]);
    let [y0, y1] = [top, bottom];
    if (kx > 1 && fits.length) {
      const margin = Math.max(4, (Math.max(...fits) - Math.min(...fits)) / 8);
      [y0, y1] = [Math.max(top, Math.min(...fits) - margin), Math.min(bottom, Math.max(...fits) + margin)];
    }
    const ky = (bottom - top) / (y1 - y0), atX = (x) => left + (x - x0) * kx, atY = (y) => top + (y - y0) * ky;
    const moved = new Map();
    for (const { mark, number, x, y } of marks) {
      const edge = mark.matches(".crash, .above, .below"), place = [atX(x[seen.time]), edge ? y : atY(y)];
      mark.setAttribute("transform", `translate(${place[0].toFixed(1)} ${place[1].toFixed(1)})`);
      mark.style.display = place[0] < left - 1 || place[0] > right + 1 || place[1] < top - 1 || place[1] > bottom + 1 ? "none" : "";
      moved.set(number, [place, x[0], y, mark.style.display]);
    }
    for (const label of svg.querySelectorAll(".label")) {
      const [place, x, y, display] = moved.get(Number(label.dataset.number));
      label.dataset.x ??= label.getAttribute("x") - x;
      label.dataset.y ??= label.getAttribute("y") - y;
      label.setAttribute("x", Math.max(left + 30, place[0] + Number(label.dataset.x)));
      label.setAttribute("y", place[1] + Number(label.dataset.y));
      label.style.display = display;
    }
    for (const { path, d } of lines) path.setAttribute("d", d[seen.time] ?? d[0]);
    for (const group of svg.querySelectorAll(".lines")) {
      group.setAttribute("transform", `matrix(${kx} 0 0 ${ky} ${left - x0 * kx} ${top - y0 * ky})`);
    }
    const height = (y) => least + (lowest - y) / (lowest - highest) * (most - least);
    const beyond = (at) => factor !== 1 && (above ? at > bend : at < bend);
    const value = (at) => (beyond(at) ? bend + (at - bend) / factor : at);
    const yOf = (found) => atY(lowest - ((beyond(found) ? bend + (found - bend) * factor : found) - least) / (most - least) * (lowest - highest));
    const [low, high] = [value(height(y1)), value(height(y0))], count = Math.floor((bottom - top) / 65);
    const parts = factor !== 1 && low < bend && bend < high ? [[low, bend], [bend, high]] : [[low, high]];
    const shown = parts.flatMap(([from, to], place) => ticks(from, to, parts.length === 1 ? count : (place === 0) === above ? count - 1 : 2));
    const grid = svg.querySelector(".grid.y"), taken = [];
    grid.replaceChildren();
    for (const [found, text] of marks.every(({ mark }) => mark.matches(".crash")) ? [] : shown) {
      const y = yOf(found);
      if (y < top || y > bottom || taken.some((other) => Math.abs(other - y) < 16)) continue;
      taken.push(y);
      add(grid, "line", { x1: left, x2: right, y1: y, y2: y });
      add(grid, "text", { x: left - 8, y: y + 4, "text-anchor": "end" }, text);
    }
    const across = svg.querySelector(".grid.x");
    across.replaceChildren();
    for (const [found, text] of last ? ticks(seen.from * last, seen.to * last, Math.floor(width / 90), whole ? 1 : 0) : []) {
      add(across, "text", { x: left + (found / last - seen.from) * kx * width, y: bottom + 18, "text-anchor": "middle" }, text);
    }
    svg.querySelector(".name").textContent = whole ? "experiment" : "hours since the start";
    const line = svg.querySelector(".bend");
    if (line) {
      line.setAttribute("transform", `translate(0 ${yOf(bend) - Number(line.firstElementChild.getAttribute("y1"))})`);
      line.style.display = parts.length === 2 ? "" : "none";
    }
  };

  const narrowest = 1 / 64;
  const show = (from, to) => {
    const width = Math.min(1, Math.max(narrowest, to - from));
    seen.from = Math.max(0, Math.min(from, 1 - width));
    seen.to = seen.from + width;
    for (const chart of charts) draw(chart);
    const off = { in: width <= narrowest, out: width >= 1, left: seen.from <= 0, right: seen.to >= 1 };
    for (const button of document.querySelectorAll("[data-zoom]")) button.disabled = off[button.dataset.zoom];
  };
  const zooms = {
    in: ({ from, to }) => show((from + to) / 2, to),
    out: ({ from, to }) => show(2 * from - to, to),
    left: ({ from, to }) => show(from - (to - from) / 2, to - (to - from) / 2),
    right: ({ from, to }) => show(from + (to - from) / 2, to + (to - from) / 2),
  };
  const controls = document.querySelector(".controls");
  if (controls) {
    controls.hidden = false;
    show(0, 1); // with the same labels at the axes as after a zoom
    for (const button of controls.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => zooms[button.dataset.zoom](seen));
    }
    find("by-time")?.addEventListener("click", ({ target }) => {
      seen.time = 1 - seen.time;
      target.setAttribute("aria-pressed", String(Boolean(seen.time)));
      show(0, 1);
    });
  }

  for (const { svg, plot: [left, right, top, bottom], marks } of charts) {
    // With a mouse a part is chosen; near a mark is on it, since a finger is wide; the arrows go from mark to mark.
    const at = (event) => (event.clientX - svg.getBoundingClientRect().x) * svg.viewBox.baseVal.width / svg.clientWidth;
    let start = null, chosen = null;
    svg.addEventListener("dragstart", (event) => event.preventDefault());
    svg.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button === 0) start = at(event);
    });
    addEventListener("pointermove", (event) => {
      if (start === null || Math.abs(at(event) - start) < 8) return;
      chosen ??= add(svg, "rect", { class: "selected", y: top, height: bottom - top });
      const [from, to] = [start, at(event)].sort((a, b) => a - b).map((x) => Math.min(right, Math.max(left, x)));
      chosen.setAttribute("x", from);
      chosen.setAttribute("width", to - from);
    });
    addEventListener("pointerup", () => {
      start = null;
      if (!chosen) return;
      const from = Number(chosen.getAttribute("x")), width = Number(chosen.getAttribute("width"));
      const share = (x) => seen.from + (x - left) / (right - left) * (seen.to - seen.from);
      chosen.remove();
      setTimeout(() => { chosen = null; }); // after the click
      show(share(from), share(from + width));
    });
    svg.addEventListener("click", (event) => {
      if (chosen) return event.preventDefault();
      if (event.target.closest(".mark")) return undefined;
      const far = ({ mark }) => {
        const box = mark.getBoundingClientRect();
        return Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY);
      };
      const near = marks.filter(({ mark }) => mark.style.display !== "none").map((each) => [far(each), each.number]);
      const [distance, number] = near.sort(([a], [b]) => a - b)[0] ?? [99];
      if (distance <= 24) location.hash = number;
      return undefined;
    });
    const order = [...marks].sort((a, b) => a.number - b.number).map(({ mark }) => mark);
    const stop = (mark) => {
      for (const other of order) other.setAttribute("tabindex", other === mark ? 0 : -1);
    };
    stop(order.at(-1));
    svg.addEventListener("focusin", (event) => order.includes(event.target) && stop(event.target));
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key], place = order.indexOf(event.target);
      if (!by || place < 0) return;
      event.preventDefault();
      let next = place + by;
      while (order[next]?.style.display === "none") next += by;
      order[next]?.focus();
    });
  }

  // What a mark of the chart is, while it is pointed at.

  const tip = find("tip");
  const point = (event) => {
    const mark = event.target.closest?.(".mark[aria-label]");
    tip.hidden = !mark;
    if (!mark) return;
    tip.textContent = mark.getAttribute("aria-label");
    const box = mark.getBoundingClientRect();
    const left = box.x + box.width / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(8, Math.min(left, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${box.y > tip.offsetHeight + 12 ? box.y - tip.offsetHeight - 8 : box.bottom + 8}px`;
  };
  for (const kind of ["pointerover", "focusin", "scroll"]) document.addEventListener(kind, point, { passive: true });
})();
