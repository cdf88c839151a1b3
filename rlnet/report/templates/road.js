// Any situation of the road: clicks put cars, lists set them too; beside it what is learned and what is exact.
(async () => {
  const data = JSON.parse(document.getElementById("road-data").textContent);
  const board = document.getElementById("road-board"), place = document.getElementById("road-said");
  const at = await unpacked(data);
  const value = (name, k) => at[name][k] * (data.scale[name] || 1);
  const text = (x) => String(+x.toPrecision(3)).replace("-", "−");
  const share = (x) => `${+(100 * x).toPrecision(3)} %`;

  // A situation: [own lane, own speed, then of each lane the gap to the next car and its speed]; a state is its number.
  const sizes = [data.most.lanes, data.most.speed + 1];
  for (let lane = 0; lane < data.most.lanes; lane += 1) sizes.push(data.most.gap + 1, data.most.other + 1);
  const number = (now) => now.reduce((sum, x, k) => sum * sizes[k] + x, 0);
  const situation = (state) => {
    const found = [];
    for (let k = sizes.length - 1; k >= 0; k -= 1) { found.unshift(state % sizes[k]); state = Math.floor(state / sizes[k]); }
    return found;
  };
  let now = situation(data.first);
  const set = (k, x) => { now[k] = x; show(); };
  const next = (k) => set(k, (now[k] + 1) % sizes[k]);

  const car = (column, lane, fill, speed, told, click) => {
    const group = drawn("g", { class: "can", role: "button" }), x = column * 30, y = lane * 30;
    group.append(drawn("title", {}, told), drawn("rect", { x: x + 3, y: y + 7, width: 24, height: 16, rx: 4, fill }),
      drawn("text", { x: x + 15, y: y + 19, fill: "#fff" }, speed));
    group.addEventListener("click", click);
    return group;
  };
  const picture = () => {
    const columns = data.most.gap + 2, lanes = data.most.lanes;
    const svg = drawn("svg", { viewBox: `0 0 ${columns * 30} ${lanes * 30}`, role: "img", "aria-label": "the road" });
    svg.style.maxWidth = `${columns * 44}px`;
    for (let lane = 0; lane < lanes; lane += 1) for (let column = 0; column < columns; column += 1) {
      const cell = drawn("rect", { x: column * 30, y: lane * 30, width: 30, height: 30, fill: "#787c82", stroke: "#8d9197", class: "can",
        "data-lane": lane, "data-column": column });
      cell.append(drawn("title", {}, column ? `the next car of this lane: ${column - 1} free cells` : "drive in this lane"));
      cell.addEventListener("click", () => column ? set(2 + 2 * lane, column - 1) : set(0, lane));
      svg.append(cell);
    }
    for (let lane = 0; lane < lanes; lane += 1) {
      const gap = now[2 + 2 * lane];
      svg.append(car(gap + 1, lane, gap === data.most.gap ? "#96a8be" : "#2d64aa", now[3 + 2 * lane],
        "the next car and its speed; click: faster", () => next(3 + 2 * lane)));
    }
    svg.append(car(0, now[0], "#cd413c", now[1], "your car and its speed; click: faster", () => next(1)));
    return svg;
  };

  const list = (k, label) => {
    const made = element("label", `${label} `), field = element("select");
    for (let x = 0; x < sizes[k]; x += 1) {
      const last = k >= 2 && k % 2 === 0 && x === sizes[k] - 1;
      field.append(element("option", last ? `${x} or more` : k === 0 ? x + 1 : x));
    }
    field.selectedIndex = now[k];
    field.dataset.part = k;
    field.addEventListener("change", () => set(k, field.selectedIndex));
    made.append(field);
    return made;
  };
  const lists = () => {
    const made = element("p", undefined, "lists");
    made.append(list(0, "own lane"), list(1, "own speed"));
    for (let lane = 0; lane < data.most.lanes; lane += 1) {
      made.append(list(2 + 2 * lane, `lane ${lane + 1}: gap`), list(3 + 2 * lane, "its speed"));
    }
    return made;
  };

  const likely = (name, state) => {
    const chances = data.names.map((_, a) => value(name, state * data.names.length + a)), most = Math.max(...chances);
    return data.names.filter((_, a) => chances[a] > most - 1e-3).join(" or ");
  };
  const table = (state) => {
    const made = element("table"), top = made.createTHead().insertRow(), body = made.createTBody();
    const columns = [["π learned", "pi", share], ["π exact", "piExact", share], ["Q learned", "q", text],
      [`${data.exact} exact`, "qExact", text], [`P(${data.event}) in the next step`, "soon", share]].filter(([, name]) => at[name]);
    ["action", ...columns.map(([head]) => head)].forEach((head, k) => top.append(element("th", head, k ? "number" : "")));
    data.names.forEach((action, a) => {
      const row = body.insertRow(), k = state * data.names.length + a;
      row.append(element("td", action), ...columns.map(([, name, form]) => element("td", form(value(name, k)), "number")));
      if (value("piExact", k) > 0) row.className = "best";
    });
    return made;
  };
  const show = () => {
    const state = number(now), parts = [element("h3", `state ${state}`)];
    for (const [who, name, policy] of [["Learned", "learned", "pi"], ["Exact", "optimal", "piExact"]]) {
      const said = `${who}: ${likely(policy, state)}, P(${data.event}) = ${text(value(name, state))}`;
      parts.push(element("p", said, name));
    }
    board.replaceChildren(picture(), lists());
    place.replaceChildren(...parts, table(state));
  };
  show();
})();
