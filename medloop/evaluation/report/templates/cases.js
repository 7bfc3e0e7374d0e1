"use strict";
// The table of cases: sorted by its headings, filtered by any text, and drawn a few hundred rows at a time.
(() => {
  const STEP = 200;
  const data = JSON.parse(document.getElementById("case-data").textContent);
  const table = document.getElementById("case-table");
  const [head, body] = [table.tHead.rows[0], table.tBodies[0]];
  const filter = document.getElementById("filter");
  const found = document.getElementById("found");
  const more = document.getElementById("more");
  const texts = data.rows.map((row) => row.join("\n").toLowerCase());
  const all = data.rows.map((_, index) => index);
  let order = all, limit = body.rows.length || STEP, sorted = null, rising = true;

  const numeric = data.columns.map((_, column) => data.rows.some((row) => typeof row[column] === "number"));
  const whole = data.columns.map((_, column) => data.rows.every((row) => row[column] === null || Number.isInteger(row[column])));
  const text = (cell, column) => {
    if (cell === null) return "–";
    if (typeof cell !== "number") return cell;
    return Math.abs(cell) >= 1e300 ? "∞" : cell.toFixed(whole[column] ? 0 : 3);
  };

  const compare = (a, b) => {
    const [x, y] = [data.rows[a][sorted], data.rows[b][sorted]];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    const less = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
    return (rising ? less : -less) || a - b;
  };

  const line = (row) => {
    const tr = document.createElement("tr");
    row.forEach((cell, column) => {
      const td = document.createElement(column ? "td" : "th");
      if (!column) td.scope = "row";
      if (column && numeric[column]) td.className = "number";
      td.textContent = text(cell, column);
      tr.append(td);
    });
    return tr;
  };

  const draw = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = order.filter((index) => words.every((word) => texts[index].includes(word)));
    body.replaceChildren(...kept.slice(0, limit).map((index) => line(data.rows[index])));
    const shown = Math.min(limit, kept.length);
    found.textContent = `${kept.length} of ${data.total} cases${shown < kept.length ? `, ${shown} shown` : ""}`;
    more.hidden = shown >= kept.length;
  };

  const sortBy = (column) => {
    rising = sorted === column ? !rising : true;
    sorted = column;
    order = all.toSorted(compare);
    [...head.cells].forEach((cell, index) => {
      if (index === column) cell.setAttribute("aria-sort", rising ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    });
    draw();
  };

  [...head.cells].forEach((cell, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = cell.textContent;
    button.addEventListener("click", () => sortBy(column));
    cell.replaceChildren(button);
  });
  filter.addEventListener("input", () => { limit = STEP; draw(); });
  more.addEventListener("click", () => { limit += STEP; draw(); });
  document.querySelector("#cases .tools").hidden = false;
  draw();
})();
