"use strict";
(() => {
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);
  const make = (name, text, attributes) => {
    const element = document.createElement(name);
    if (text !== undefined) element.textContent = text;
    for (const key in attributes) element.setAttribute(key, attributes[key]);
    return element;
  };

  const theme = $("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme || (prefersDark.matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.setAttribute("aria-label", "Other colours: light or dark");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    nameTheme();
  });
  prefersDark.addEventListener("change", nameTheme);
  nameTheme();

  const source = $("data");
  if (!source) return;
  root.classList.add("js");
  const data = JSON.parse(source.textContent);
  const rows = data.rows;
  const [COOKIE, NETNS, LOCAL, REMOTE, ROLE, STATE, VERDICT, SINCE, EARLIEST, AGE, END, HOW, HELD,
    RECV, SEND, SENT, STAYS, HOLDS, VERDICTS, CODE] = Array.from({ length: 20 }, (_, n) => n);

  // Times, in the zone of the report and not of who reads it.
  const two = (n) => String(n).padStart(2, "0");
  const zoned = (ms) => {
    const at = data.epoch + ms;
    let zone = data.zones[0];
    for (const next of data.zones) if (next[0] <= at) zone = next;
    return [new Date(at + zone[1] * 60000), zone[2]];
  };
  const day = (d) => `${d.getUTCFullYear()}-${two(d.getUTCMonth() + 1)}-${two(d.getUTCDate())}`;
  const clock = (d) => `${two(d.getUTCHours())}:${two(d.getUTCMinutes())}:${two(d.getUTCSeconds())}`;
  const today = day(zoned(data.end)[0]);
  const short = (ms) => {
    const d = zoned(ms)[0];
    const on = day(d);
    return on === today ? clock(d) : `${on.startsWith(today.slice(0, 5)) ? on.slice(5) : on} ${clock(d)}`;
  };
  const long = (ms) => {
    const [d, name] = zoned(ms);
    return `${day(d)} ${clock(d)}.${String(d.getUTCMilliseconds()).padStart(3, "0")} ${name}`;
  };
  const length = (ms) => {
    const s = Math.floor(ms / 1000);
    if (s < 1) return `${ms}ms`;
    if (s < 10) return `${s}.${Math.floor(ms / 100) % 10}s`;
    if (s < 60) return `${s}s`;
    if (s < 3600) return `${Math.floor(s / 60)}m${two(s % 60)}s`;
    if (s < 86400) return `${Math.floor(s / 3600)}h${two(Math.floor(s / 60) % 60)}m`;
    return `${Math.floor(s / 86400)}d${two(Math.floor(s / 3600) % 24)}h`;
  };
  const text = (n) => data.texts[n];
  const orUnknown = (n) => (n === null ? "?" : String(n));

  // What a text sorts by: its place among all texts.
  const order = data.texts.map((_, n) => n);
  const collator = new Intl.Collator("en", { numeric: true });
  order.sort((a, b) => collator.compare(data.texts[a], data.texts[b]));
  const rank = new Int32Array(order.length);
  order.forEach((n, place) => { rank[n] = place; });
  let remoteRank = null;
  const remotes = () => {
    if (!remoteRank) {
      const sorted = Array.from(rows.keys());
      const key = rows.map((row) => {
        const at = row[REMOTE].lastIndexOf(":");
        const port = row[REMOTE].slice(at + 1).padStart(5, "0");
        return row[REMOTE].slice(0, at).split(".").map((part) => part.padStart(3, "0")).join(".") + port;
      });
      sorted.sort((a, b) => (key[a] < key[b] ? -1 : key[a] > key[b] ? 1 : 0));
      remoteRank = new Int32Array(rows.length);
      sorted.forEach((n, place) => { remoteRank[n] = place; });
    }
    return remoteRank;
  };

  const columns = [
    ["Verdict", (row) => data.verdicts[row[VERDICT]], (n) => rows[n][VERDICT], false, 8.4],
    ["State", (row) => data.states[row[STATE]], (n) => rows[n][STATE], false, 7],
    ["Since", (row) => short(row[SINCE]), (n) => rows[n][SINCE], false, 8],
    ["Age", (row) => length(row[AGE]) + (row[EARLIEST] === row[SINCE] ? "" : "+"), (n) => rows[n][AGE], true, 5],
    ["Held by", (row) => text(row[HELD]), (n) => rank[rows[n][HELD]], false, 13],
    ["Local", (row) => text(row[LOCAL]), (n) => rank[rows[n][LOCAL]], false, 9.2],
    ["Remote", (row) => row[REMOTE], (n) => remotes()[n], false, 10],
    ["Recv-Q", (row) => orUnknown(row[RECV]), (n) => (rows[n][RECV] === null ? -1 : rows[n][RECV]), true, 5],
    ["End", (row) => (row[END] === null ? "open" : `${short(row[END])} ${text(row[HOW])}`),
      (n) => (rows[n][END] === null ? Infinity : rows[n][END]), false, 8.4],
  ];

  // The table: as many rows as can be seen, between two that are as high as all the others.
  let high = 33;
  const MORE = 8;
  const view = make("div", undefined, {
    class: "view", tabindex: "0", "aria-label": "All sockets. Arrow keys choose a row, Enter shows more of it.",
    role: "grid", "aria-multiselectable": "false", "aria-colcount": columns.length,
  });
  const table = make("table", undefined, { role: "presentation" });
  const head = make("thead", undefined, { role: "rowgroup" });
  const headings = make("tr", undefined, { role: "row", "aria-rowindex": 1 });
  const body = make("tbody", undefined, { role: "rowgroup" });
  head.append(headings);
  const widths = make("colgroup");
  for (const [, , , , wide] of columns) {
    const column = make("col");
    column.style.width = `${wide}rem`;
    widths.append(column);
  }
  table.append(widths, head, body);
  view.append(table);
  $("grid").append(view);

  let shown = Array.from(rows.keys());
  let sortedBy = -1;
  let up = true;
  let chosen = -1;

  const headingsOf = columns.map(([name], n) => {
    const th = make("th", undefined, { scope: "col", role: "columnheader" });
    const button = make("button", name, { type: "button" });
    button.addEventListener("click", () => sortBy(n));
    th.append(button);
    headings.append(th);
    return th;
  });

  const took = (what, since) => {
    draw();
    root.dataset[what] = (performance.now() - since).toFixed(1);
  };

  function sortShown() {
    if (sortedBy < 0) {
      shown.sort((a, b) => a - b);
      return;
    }
    const key = columns[sortedBy][2];
    const keys = new Float64Array(rows.length);
    for (const n of shown) keys[n] = key(n);
    const way = up ? 1 : -1;
    shown.sort((a, b) => (keys[a] === keys[b] ? a - b : keys[a] < keys[b] ? -way : way));
  }

  function sortBy(n) {
    const began = performance.now();
    if (sortedBy === n) up = !up;
    else [sortedBy, up] = [n, true];
    headingsOf.forEach((th, at) => {
      if (at === n) th.setAttribute("aria-sort", up ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    });
    const row = chosen < 0 ? -1 : shown[chosen];
    sortShown();
    chosen = row < 0 ? -1 : shown.indexOf(row);
    view.scrollTop = 0;
    took("sortMs", began);
  }

  let searched = null;
  function haystacks() {
    if (!searched) {
      searched = rows.map((row) => [
        data.verdicts[row[VERDICT]], data.states[row[STATE]], text(row[HELD]), text(row[LOCAL]), row[REMOTE],
        text(row[HOW]), row[COOKIE],
      ].join("\n").toLowerCase());
    }
    return searched;
  }

  const filter = $("filter");
  const verdict = $("verdict");
  const open = $("open");
  function select() {
    const began = performance.now();
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const hay = words.length ? haystacks() : null;
    const wanted = verdict.value === "" ? -1 : Number(verdict.value);
    shown = [];
    rows.forEach((row, n) => {
      if (wanted >= 0 && row[VERDICT] !== wanted) return;
      if (open.value === "open" && row[END] !== null) return;
      if (open.value === "ended" && row[END] === null) return;
      if (words.every((word) => hay[n].includes(word))) shown.push(n);
    });
    if (sortedBy >= 0) sortShown();
    choose(-1);
    view.scrollTop = 0;
    took("filterMs", began);
  }
  const given = new Set(rows.map((row) => row[VERDICT]));
  data.verdicts.forEach((name, n) => {
    if (given.has(n)) verdict.append(make("option", name, { value: n }));
  });
  filter.addEventListener("input", select);
  verdict.addEventListener("change", select);
  open.addEventListener("change", select);

  const pad = (high) => {
    const tr = make("tr", undefined, { class: "pad", "aria-hidden": "true" });
    const td = make("td", undefined, { colspan: columns.length });
    td.style.height = `${high}px`;
    tr.append(td);
    return tr;
  };

  function draw() {
    const first = Math.max(0, Math.floor(view.scrollTop / high) - MORE);
    const last = Math.min(shown.length, Math.ceil((view.scrollTop + view.clientHeight) / high) + MORE);
    const lines = [];
    if (first > 0) lines.push(pad(first * high));
    for (let at = first; at < last; at += 1) {
      const row = rows[shown[at]];
      const tr = make("tr", undefined, {
        role: "row", id: `row${at}`, "aria-rowindex": at + 2, "aria-selected": at === chosen,
      });
      for (const [, cell, , isNumber] of columns) {
        const said = cell(row);
        const td = make("td", said, { role: "gridcell" });
        if (isNumber) td.className = "number";
        if (said.length > 12) td.title = said;
        tr.append(td);
      }
      lines.push(tr);
    }
    if (last < shown.length) lines.push(pad((shown.length - last) * high));
    body.replaceChildren(...lines);
    // Larger letters make higher rows.
    const one = body.querySelector("tr[id]");
    if (one && Math.abs(one.getBoundingClientRect().height - high) > 0.01) {
      high = one.getBoundingClientRect().height;
      draw();
      return;
    }
    view.setAttribute("aria-rowcount", shown.length + 1);
    if (chosen >= first && chosen < last) view.setAttribute("aria-activedescendant", `row${chosen}`);
    else view.removeAttribute("aria-activedescendant");
    $("count").textContent = `${shown.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
  }

  let waiting = false;
  view.addEventListener("scroll", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  });
  addEventListener("resize", draw);

  function choose(at) {
    chosen = at;
    if (at < 0) {
      $("detail").hidden = true;
      return;
    }
    const top = at * high;
    const room = view.clientHeight - head.offsetHeight;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + high > view.scrollTop + room) view.scrollTop = top + high - room;
    draw();
    if (!$("detail").hidden) tell(rows[shown[at]]);
  }

  view.addEventListener("keydown", (event) => {
    if (event.target !== view || !shown.length) return;
    const page = Math.max(1, Math.floor(view.clientHeight / high) - 2);
    const to = {
      ArrowDown: chosen + 1, ArrowUp: chosen - 1, PageDown: chosen + page, PageUp: chosen - page,
      Home: 0, End: shown.length - 1,
    }[event.key];
    if (to !== undefined) {
      choose(Math.min(shown.length - 1, Math.max(0, to)));
      event.preventDefault();
    } else if (event.key === "Enter" && chosen >= 0) {
      tell(rows[shown[chosen]]);
      event.preventDefault();
    } else if (event.key === "Escape") {
      $("detail").hidden = true;
    }
  });
  body.addEventListener("click", (event) => {
    const tr = event.target.closest("tr[id]");
    if (!tr) return;
    choose(Number(tr.id.slice(3)));
    tell(rows[shown[chosen]]);
  });

  function tell(row) {
    const detail = $("detail");
    const list = make("dl");
    const add = (name, ...said) => {
      list.append(make("dt", name));
      const dd = make("dd");
      said.forEach((line) => dd.append(make("div", line)));
      list.append(dd);
    };
    add("Verdict", data.verdicts[row[VERDICT]]);
    add("State", data.states[row[STATE]]);
    if (row[STAYS].length) {
      add("States", ...row[STAYS].map(([state, from, to]) =>
        `${data.states[state]}: ${long(from)} to ${to === null ? "the end" : long(to)}`));
    }
    add("Since", row[EARLIEST] === row[SINCE] ? long(row[SINCE])
      : row[EARLIEST] === null ? `${long(row[SINCE])}, or before`
        : `between ${long(row[EARLIEST])} and ${long(row[SINCE])}`);
    add("Age", length(row[AGE]) + (row[EARLIEST] === row[SINCE] ? "" : " or more"));
    add("Held by", ...(row[HOLDS].length ? row[HOLDS].map(([who, fd, from, to, opener]) => {
      const how = fd < 0 ? "holds its listener" : `fd ${fd}`;
      const first = opener === 1 ? ", had it first" : opener === 0 ? ", inherited it" : "";
      return `${text(who)}: ${how}${first}; seen from ${short(from)}${to === null ? "" : ` to ${short(to)}`}`;
    }) : [text(row[HELD])]));
    if (row[VERDICTS].length) {
      add("Verdicts", ...row[VERDICTS].map(([verdict, at]) => `${data.verdicts[verdict]} from ${short(at)}`));
    }
    add("Evidence", `Recv-Q ${orUnknown(row[RECV])}`, `Send-Q ${orUnknown(row[SEND])}`,
      `sent since the peer's FIN: ${orUnknown(row[SENT])} bytes`);
    if (row[CODE].length) add("In the code", ...row[CODE].map(text));
    add("Role", ["server", "client", "unknown"][row[ROLE]]);
    add("Socket", `cookie ${row[COOKIE] === "0" ? "unknown" : row[COOKIE]}, network namespace ${row[NETNS]}`);
    add("End", row[END] === null ? "open" : `${long(row[END])}: ${text(row[HOW])}`);
    detail.replaceChildren(make("h3", `${text(row[LOCAL])} and ${row[REMOTE]}`), list);
    detail.hidden = false;
  }

  $("tools").hidden = false;
  $("grid").hidden = false;
  draw();
})();
