"use strict";
// A state under the pointer, or a clicked one, is marked in every drawing and described beside them.
(() => {
  const source = document.getElementById("states");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const place = document.getElementById("inspector");
  const at = new Map(data.state.map((s, i) => [s, i]));
  let kept = null, marked = [];

  const number = (x) => x === null ? "–" : typeof x === "string" ? x
    : Number.isInteger(x) ? x.toLocaleString("en") : Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-3)
    ? x.toExponential(2) : x.toFixed(4).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");

  const element = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };

  const table = (head, rows) => {
    const made = element("table"), top = made.createTHead().insertRow(), body = made.createTBody();
    head.forEach((text, k) => top.append(element("th", text, k ? "number" : "")));
    rows.forEach((row) => {
      const line = body.insertRow();
      row.forEach((cell, k) => line.append(element("td", k ? number(cell) : cell, k ? "number" : "")));
    });
    return made;
  };

  const show = (s) => {
    const i = at.get(s);
    if (i === undefined) return;
    marked.forEach((group) => group.classList.remove("on"));
    marked = [...document.querySelectorAll(`g[data-s="${s}"]`)];
    marked.forEach((group) => group.classList.add("on"));
    const parts = [element("h3", data.name[i])];
    if (data.mark[i]) parts.push(element("p", data.mark[i]));
    const v = (name) => data[name] ? data[name][i] : null;
    const rows = [["V", v("v"), v("v_exact"), v("v") === null ? null : v("v") - v("v_exact")]];
    if (data.end[i]) parts.push(element("p", "Terminal: its value is 0."));
    else {
      parts.push(table(["", "learned", data.exact, "error"], rows));
      if (data.v_limited) parts.push(element("p", `Under the time limit, with all steps ahead: ${number(v("v_limited"))}.`));
      if (data.v_mean) parts.push(element("p",
        `V over ${data.members} members: mean ${number(v("v_mean"))}, ${number(v("v_min"))} to ${number(v("v_max"))}.`));
      const head = ["action", ...(data.q ? ["Q"] : []), data.exact.replace("V", "Q"), "π", "π*", "tries"];
      parts.push(table(head, data.actions.map((name, a) => [name, ...(data.q ? [data.q[i][a]] : []),
        data.q_exact[i][a], data.pi[i][a], data.pi_exact[i][a], data.visits[i][a]]).filter((_, a) => data.q_exact[i][a] !== null)));
    }
    place.replaceChildren(...parts);
  };

  const state = (event) => {
    const group = event.target.closest ? event.target.closest("[data-s]") : null;
    return group ? Number(group.dataset.s) : null;
  };
  document.addEventListener("pointerover", (event) => {
    const s = state(event);
    if (s !== null && kept === null) show(s);
  });
  document.addEventListener("click", (event) => {
    const s = state(event);
    if (s === null) return;
    kept = s === kept ? null : s;
    show(s);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") kept = null;
  });
  show(data.first);
})();
